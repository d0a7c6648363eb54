"""A training loop written with accelerate, run whole, interrupted, or killed and started again."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState
from accelerate.utils import DataLoaderConfiguration, set_seed
from tests.checkpoint.callbacks.data import SAMPLES, WIDTH, Drawn, Interrupted
from torch import nn
from torch.utils.data import DataLoader, RandomSampler

from remora.checkpoint.callbacks.accelerate import checkpointing

EPOCHS = 3


class Count:
    """Something that is registered with the accelerator for checkpointing."""

    def __init__(self) -> None:
        self.batches = 0

    def state_dict(self) -> dict[str, int]:
        return {"batches": self.batches}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.batches = state["batches"]


def train_loader(order: str, workers: int) -> DataLoader[Any]:
    """Shuffled by the global random numbers, by a generator, or drawn with replacement by one."""
    data = Drawn()
    if order == "global":
        return DataLoader(data, batch_size=2, shuffle=True, num_workers=workers)
    generator = torch.Generator().manual_seed(5)
    sampler = RandomSampler(data, replacement=order == "replacement", generator=generator)
    return DataLoader(data, batch_size=2, sampler=sampler, generator=generator, num_workers=workers)


def train(
    folder: Path | None,
    *,
    stop_at: int | None = None,
    accumulate: int = 1,
    order: str = "global",
    workers: int = 0,
    seedable: bool = False,
    log: Path | None = None,
    **options: Any,
) -> tuple[list[tuple[Any, ...]], tuple[Any, ...]]:
    """Losses and evaluations made here, and what must be the same in the end."""
    AcceleratorState._reset_state(True)
    GradientState._reset_state()
    config = DataLoaderConfiguration(use_seedable_sampler=seedable)
    accelerator = Accelerator(
        cpu=True, gradient_accumulation_steps=accumulate, dataloader_config=config
    )
    set_seed(0)
    net = nn.Sequential(nn.Linear(WIDTH, 8), nn.Dropout(0.5), nn.Linear(8, 1))
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.01)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 20)
    net, optimizer, scheduler, batches, others = accelerator.prepare(
        net, optimizer, scheduler, train_loader(order, workers), DataLoader(Drawn(), batch_size=4)
    )
    count = Count()
    accelerator.register_for_checkpointing(count)
    seen: list[tuple[Any, ...]] = []
    riding = (
        nullcontext()
        if folder is None
        else checkpointing(
            accelerator, folder, loader=batches, every=1, when_slow="block", **options
        )
    )
    try:
        with riding as saver:
            for epoch in range(saver.epoch if saver else 0, EPOCHS):
                for inputs, targets in batches:
                    with accelerator.accumulate(net):
                        loss = nn.functional.mse_loss(net(inputs)[:, 0], targets)
                        accelerator.backward(loss)
                        optimizer.step()
                        scheduler.step()
                        optimizer.zero_grad()
                    count.batches += 1
                    seen.append((epoch, count.batches, loss.item()))
                    _write(log, seen[-1])
                    if saver:
                        saver.step()
                    if count.batches == stop_at:
                        raise Interrupted
                with torch.no_grad():
                    seen.append((epoch, *(net(inputs).sum().item() for inputs, _ in others)))
    except Interrupted:
        pass
    weights = [parameter.tolist() for parameter in net.parameters()]
    return seen, (count.batches, weights, scheduler.get_last_lr())


def _write(log: Path | None, line: object) -> None:
    if log is not None:
        with log.open("a") as file:
            file.write(f"{line}\n")


BATCHES = EPOCHS * SAMPLES // 2

if __name__ == "__main__":
    print(train(Path(sys.argv[1]), log=Path(sys.argv[2]))[1])
