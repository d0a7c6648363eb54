"""The sessions: what a step does under each mode.

A session reads no value back from the device in a step; outcomes stay tensors until asked for.
Some models do: training and ``forward`` of GPT-2 and Whisper wait for the device once a step,
since their classes in transformers look at the position ids for sequences packed together. That is
left as it is, being what jobs that use those classes do.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from remora.workloads.contract import Outcome, Session, Work

Batch = Mapping[str, torch.Tensor]
Apply = Callable[[torch.nn.Module, Batch], torch.Tensor]
"""Runs a model on a batch: the loss (a scalar) when training, else the output."""


class BatchSession(Session):
    """Takes the next batch of a fixed cycle; its place there is part of its state."""

    def __init__(self, batches: Sequence[Batch]) -> None:
        self._batches = batches
        self._steps = 0

    def state(self) -> dict[str, Any]:
        return {**super().state(), "steps": self._steps}

    def load_state(self, state: Mapping[str, Any]) -> None:
        super().load_state(state)
        self._steps = state["steps"]

    def _next_batch(self) -> Batch:
        batch = self._batches[self._steps % len(self._batches)]
        self._steps += 1
        return batch


class TrainSession(BatchSession):
    """Forward, backward, optimizer step and zero_grad on the next batch of a fixed cycle.

    The device's generator is seeded anew for every step, so that dropout in the n-th step depends
    on the session's seed and n alone, whatever else draws random numbers in the process.
    """

    optimizer: torch.optim.Optimizer

    def __init__(
        self,
        model: torch.nn.Module,
        optimizer: torch.optim.Optimizer,
        loss: Apply,
        batches: Sequence[Batch],
        *,
        work: Work,
        device: torch.device,
        seed: int,
    ) -> None:
        super().__init__(batches)
        self.model = model.train()
        self.optimizer = optimizer
        self.device = device
        self.work = work
        self._loss = loss
        self._generator = default_generator(device)
        self._seed = seed

    def step(self) -> Outcome:
        self._generator.manual_seed(self._seed + self._steps)
        loss = self._loss(self.model, self._next_batch())
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        return Outcome(loss)


class ForwardSession(BatchSession):
    """Inference on the next batch of a fixed cycle; the outcome is the output."""

    optimizer = None

    def __init__(
        self,
        model: torch.nn.Module,
        output: Apply,
        batches: Sequence[Batch],
        *,
        work: Work,
        device: torch.device,
    ) -> None:
        super().__init__(batches)
        self.model = model.eval()
        self.device = device
        self.work = work
        self._output = output

    @torch.no_grad()
    def step(self) -> Outcome:
        return Outcome(self._output(self.model, self._next_batch()))


def default_generator(device: torch.device) -> torch.Generator:
    """The generator that dropout on ``device`` draws from."""
    if device.type != "cuda":
        return torch.default_generator
    torch.cuda.init()
    return torch.cuda.default_generators[device.index or 0]
