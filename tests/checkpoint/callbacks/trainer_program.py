"""A training program of transformers' Trainer, run whole, interrupted, or killed and resumed."""

from __future__ import annotations

import os
import random
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from tests.checkpoint.callbacks.data import SAMPLES, Interrupted
from torch.utils.data import Dataset
from transformers import (
    EarlyStoppingCallback,
    GPT2Config,
    GPT2LMHeadModel,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    set_seed,
)
from transformers.utils import logging

from remora.checkpoint.callbacks.transformers import RemoraCallback

logging.set_verbosity_error()
EPOCHS = 3
VOCABULARY = 64


class Tokens(Dataset[dict[str, torch.Tensor]]):
    """Eight tokens a sample, one of them drawn anew each time it is loaded."""

    def __len__(self) -> int:
        return SAMPLES

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        fixed = torch.Generator().manual_seed(index)
        tokens = torch.randint(0, VOCABULARY, (8,), generator=fixed)
        tokens[random.randrange(8)] = int(torch.randint(0, VOCABULARY, ()))
        return {"input_ids": tokens, "labels": tokens}


class Watch(TrainerCallback):  # type: ignore[misc]  # of a package without types
    """Interrupts a run before a step is settled; writes down what is logged."""

    def __init__(self, stop_at: int | None, log: Path | None) -> None:
        self.stop_at, self.log = stop_at, log

    def on_step_end(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        if state.global_step == self.stop_at:
            raise Interrupted

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **others: Any) -> None:
        if self.log is not None and "loss" in logs:
            with self.log.open("a") as file:
                file.write(f"{(state.global_step, logs['loss'])}\n")


def train(
    folder: Path | None,
    out: Path,
    *,
    stop_at: int | None = None,
    log: Path | None = None,
    resume_from_checkpoint: str | None = None,
    remora: dict[str, Any] | None = None,
    **settings: Any,
) -> Trainer:
    """Train to the end, or until a step is made that is not settled any more."""
    set_seed(0)
    config = GPT2Config(
        vocab_size=VOCABULARY, n_positions=8, n_embd=16, n_layer=1, n_head=2,
        bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    given = {
        "per_device_train_batch_size": 2, "gradient_accumulation_steps": 2,
        "num_train_epochs": EPOCHS, "logging_steps": 1, "eval_strategy": "epoch",
        "save_strategy": "no", "lr_scheduler_type": "cosine",
    } | settings  # fmt: skip
    arguments = TrainingArguments(
        str(out), **given, metric_for_best_model="loss", report_to="none", disable_tqdm=True,
        use_cpu=True, dataloader_pin_memory=False,
    )  # fmt: skip
    callbacks: list[Any] = [Watch(stop_at, log), EarlyStoppingCallback(50)]
    if folder is not None:
        callbacks.append(RemoraCallback(folder, every=1, when_slow="block", **remora or {}))
    trainer = Trainer(
        GPT2LMHeadModel(config), arguments, train_dataset=Tokens(), eval_dataset=Tokens(),
        callbacks=callbacks,
    )  # fmt: skip
    with suppress(Interrupted):
        trainer.train(resume_from_checkpoint=resume_from_checkpoint)
    return trainer


def outcome(trainer: Trainer) -> tuple[Any, ...]:
    """What must be the same in the end, whatever happened on the way: the log and the weights."""
    log = [
        {name: value for name, value in entry.items() if not _is_of_the_call(name)}
        for entry in trainer.state.log_history
    ]
    weights = [float(each.double().sum()) for each in trainer.model.parameters()]
    (stopping,) = (
        each for each in trainer.callback_handler.callbacks
        if isinstance(each, EarlyStoppingCallback)
    )  # fmt: skip
    return log, weights, trainer.state.total_flos, stopping.early_stopping_patience_counter


def _is_of_the_call(name: str) -> bool:
    """What Trainer reports of one call of ``train`` and not of the training: speeds, its mean."""
    return name == "train_loss" or name.endswith(("runtime", "per_second"))


if __name__ == "__main__":
    folder, log = map(Path, sys.argv[1:])
    os.chdir(folder.parent)
    print(outcome(train(folder, folder.parent / "out", log=log))[1:])
