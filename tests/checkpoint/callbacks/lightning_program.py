"""A training program of Lightning's, run whole, interrupted, or killed and started again."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import EarlyStopping
from tests.checkpoint.callbacks.data import WIDTH, Drawn, Interrupted
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from remora.checkpoint.callbacks.lightning import RemoraCheckpoint

logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
EPOCHS = 3


class Module(lightning.LightningModule):  # type: ignore[misc]  # of a package without types
    """Dropout, a moving average of the loss kept by hooks, and two ways to drive the rate."""

    def __init__(self, stop_at: int | None, plateau: bool, log: Path | None) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(WIDTH, 8), nn.Dropout(0.5), nn.Linear(8, 1))
        self.stop_at, self.plateau, self.log_file = stop_at, plateau, log
        self.steps: list[tuple[int, int, int, float]] = []
        self.validations: list[tuple[int, float]] = []
        self.average = 0.0

    def _loss(self, batch: list[Tensor]) -> Tensor:
        inputs, targets = batch
        return nn.functional.mse_loss(self.net(inputs)[:, 0], targets)

    def training_step(self, batch: list[Tensor], index: int) -> Tensor:
        if len(self.steps) == self.stop_at:
            raise Interrupted
        loss = self._loss(batch)
        self.log("loss", loss)
        self.steps.append((self.current_epoch, index, self.global_step, loss.item()))
        if self.log_file is not None:
            with self.log_file.open("a") as file:
                file.write(f"{self.steps[-1]}\n")
        return loss

    def on_train_batch_end(self, *_: Any) -> None:
        self.average = 0.9 * self.average + self.steps[-1][-1]

    def validation_step(self, batch: list[Tensor], index: int) -> None:
        loss = self._loss(batch)
        self.log("validation", loss)
        self.validations.append((self.global_step, loss.item()))

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["average"] = self.average

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.average = checkpoint["average"]

    def configure_optimizers(self) -> dict[str, Any]:
        optimizer = torch.optim.AdamW(self.parameters(), lr=0.01)
        if self.plateau:
            on_plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, "min", 0.5, 0)
            driven = {"scheduler": on_plateau, "monitor": "validation"}
        else:
            cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 20)
            driven = {"scheduler": cosine, "interval": "step"}
        return {"optimizer": optimizer, "lr_scheduler": driven}

    def outcome(self) -> tuple[Any, ...]:
        """What must be the same in the end, whatever happened on the way."""
        weights = [parameter.tolist() for parameter in self.parameters()]
        progress = self.trainer.fit_loop.state_dict()
        progress["state_dict"].pop("combined_loader", None)  # there only with us
        schedule = self.lr_schedulers().state_dict()
        return weights, self.average, progress, schedule


def train(
    folder: Path | None,
    *,
    stop_at: int | None = None,
    plateau: bool = False,
    log: Path | None = None,
    data: type[Dataset[Any]] = Drawn,
    shuffle: bool = True,
    ckpt_path: Path | None = None,
    **settings: Any,
) -> Module:
    """Train to the end, or until ``stop_at`` steps were made here."""
    lightning.seed_everything(0, verbose=False)
    module = Module(stop_at, plateau, log)
    callbacks: list[Any] = [EarlyStopping("validation", patience=50)]
    if folder is not None:
        callbacks.append(RemoraCheckpoint(folder, every=1, when_slow="block"))
    trainer = lightning.Trainer(
        **{"max_epochs": EPOCHS} | settings,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=folder is not None,
        callbacks=callbacks,
        log_every_n_steps=1,
    )
    loaders = DataLoader(data(), batch_size=2, shuffle=shuffle), DataLoader(Drawn(), batch_size=4)
    try:
        trainer.fit(module, *loaders, ckpt_path=ckpt_path)
    except Interrupted:
        if stop_at is None:
            raise
    return module


if __name__ == "__main__":
    print(train(Path(sys.argv[1]), log=Path(sys.argv[2])).outcome())
