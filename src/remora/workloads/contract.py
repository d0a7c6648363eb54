"""The contract of a workload: a real model with its data and one step of work."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import torch

from remora.core.tensors import fingerprint

Mode = Literal["train", "forward", "prefill", "decode"]
Scale = Literal["quick", "standard", "paper"]
SCALES: tuple[Scale, ...] = ("quick", "standard", "paper")


_PIECE = 2**20
"""Elements widened to float64 at a time: all at once, large outputs would double a peak of memory
that a run reports. (A mean with a ``dtype`` copies the whole tensor, too.)"""


class Outcome:
    """What one step produced, comparable between arms.

    Holds the tensor and reads it only when asked, so that reading it costs the step nothing.
    """

    def __init__(self, tensor: torch.Tensor) -> None:
        self.tensor = tensor.detach()

    @cached_property
    def value(self) -> float:
        """The loss, or the mean of all elements in float64: equal work gives close values."""
        if not self.tensor.numel():
            return 0.0
        flat = self.tensor.reshape(-1)
        wide = flat.new_empty(min(_PIECE, flat.numel()), dtype=torch.float64)
        total = wide.new_zeros(())
        for piece in flat.split(_PIECE):
            total += wide[: piece.numel()].copy_(piece).sum()
        return float(total / flat.numel())

    @cached_property
    def digest(self) -> str:
        """A fingerprint of every element: bit-identical work gives equal digests."""
        return fingerprint(self.tensor)


@dataclass(frozen=True)
class Work:
    """How much one step does, for throughput: ``count`` of ``unit`` (images, tokens, …)."""

    count: int
    unit: str


@dataclass(frozen=True)
class Footprint:
    """Memory a session needs, by the model's own arithmetic. All sizes in bytes."""

    parameters: int
    """How many parameters (elements, shared ones once)."""
    weights: int
    gradients: int
    optimizer: int
    activations: int
    """An estimate from the model's shapes: activations, inputs and caches."""

    @property
    def total(self) -> int:
        return self.weights + self.gradients + self.optimizer + self.activations


class Session(ABC):
    """One built workload, ready to step. Made by :meth:`Workload.build`."""

    model: torch.nn.Module
    optimizer: torch.optim.Optimizer | None
    """What trains the model; of several optimizers the last to step."""
    device: torch.device
    work: Work
    on_first: Callable[[], None] | None = None
    """Whom a step tells when its first unit of work (a token) is known to the program."""

    @property
    def optimizers(self) -> Mapping[str, torch.optim.Optimizer]:
        """All there are, by their names in :meth:`state`; a session with several overrides it."""
        return {} if self.optimizer is None else {"optimizer": self.optimizer}

    @abstractmethod
    def step(self) -> Outcome:
        """Do one step of work. The n-th step of two sessions of one seed does equal work."""

    def first_is_known(self) -> None:
        """For a step, or a system that does its work, to call: as often as it likes. One that gets
        all it makes at once does not call it.
        """
        if self.on_first is not None:
            self.on_first()

    def state(self) -> dict[str, Any]:
        """What a checkpoint must hold: ``state_dict`` of the model and the optimizers.

        A session whose next step depends on more (its place in the data, say) adds that. All values
        are tensors, numbers and strings, or dicts and lists of such.
        """
        trained = {name: one.state_dict() for name, one in self.optimizers.items()}
        return {"model": self.model.state_dict(), **trained}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on from ``state``, which a session of the same workload, scale and seed gave.

        The next step then gives what that session's next step gave, bit for bit.
        """
        self.model.load_state_dict(state["model"])
        for name, optimizer in self.optimizers.items():
            optimizer.load_state_dict(state[name])

    def close(self) -> None:  # noqa: B027  most sessions hold nothing but memory
        """Release what the session holds. Calling it twice does no harm."""


class Workload(ABC):
    """A model under one mode, at three scales. Registered under ``name``: ``<model>-<mode>``."""

    name: str
    model: str
    mode: Mode
    source: str
    """Where the sizes at ``paper`` scale come from (paper and section, or config)."""
    packages: tuple[str, ...] = ()
    """Distributions beyond the core it needs, such as ``transformers``."""

    @abstractmethod
    def sizes(self, scale: Scale) -> Mapping[str, int | str]:
        """The sizes a reader needs to repeat it: batch, sequence length, layers, optimizer …"""

    @abstractmethod
    def footprint(self, scale: Scale) -> Footprint:
        """Memory needed, worked out without allocating it."""

    @abstractmethod
    def build(
        self, scale: Scale, device: torch.device, *, seed: int = 0, data: Path | None = None
    ) -> Session:
        """Build model, optimizer and data on ``device``; the same seed gives the same session.

        ``data`` is a local dataset to use in place of the synthetic one.

        Raises:
            BadValue: ``data`` is not of the form this workload reads.
            Unavailable: a package it needs is not installed.
        """
