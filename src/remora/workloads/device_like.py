"""A stand-in for a job whose step runs elsewhere than on the CPU: a wait, and a state that changes.

A step sleeps for as long as a published step takes on an accelerator, does a forward and backward
of one small tensor, and lets a real optimizer change one element of every tensor of a large state.
What it is for: to see what a checkpointing system takes from a job when the host's cores are free,
as they nearly are while a GPU computes. What it is not: a GPU. Nothing is copied from a device,
nothing competes for its memory or its bus, and no number measured on it says anything of one.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from remora.core.errors import BadValue
from remora.workloads.contract import Footprint, Outcome, Scale, Session, Work, Workload
from remora.workloads.model_workload import BATCHES, ModelWorkload
from remora.workloads.sessions import Batch, BatchSession

_FLOAT_BYTES = 4
_COPIES = 3
"""A parameter and Adam's two moments of it."""
_BLOCKS = 12
_BLOCK_SHARE = 0.8
"""How much of the parameters the blocks hold; the embedding has the rest."""
_HEAD = 1024


@dataclass(frozen=True)
class StateSizes:
    """``state_mb`` million bytes of parameters and moments together; a step waits ``wait_ms``."""

    state_mb: int
    wait_ms: int = 255

    @property
    def parameters(self) -> int:
        """How many there are to be; the network's own count differs by less than one row."""
        return self.state_mb * 10**6 // (_FLOAT_BYTES * _COPIES)

    @property
    def width(self) -> int:
        """Of a block: twelve blocks of 12 width² parameters are their share."""
        return max(8, int(math.sqrt(self.parameters * _BLOCK_SHARE / (12 * _BLOCKS))) // 8 * 8)

    @property
    def rows(self) -> int:
        """Of the embedding."""
        return max(1, (self.parameters - _BLOCKS * block_numel(self.width)) // self.width)


def block_shapes(width: int) -> list[tuple[int, ...]]:
    """The twelve tensors of a transformer block: from a bias of ``width`` to 4 ``width``²."""
    return [
        *((3 * width, width), (3 * width,), (width, width), (width,)),
        *((4 * width, width), (4 * width,), (width, 4 * width), (width,)),
        *((width,), (width,), (width,), (width,)),
    ]


def block_numel(width: int) -> int:
    return sum(math.prod(shape) for shape in block_shapes(width))


class State(nn.Module):
    """Parameters in the sizes of a language model of twelve blocks: 146 tensors.

    The forward uses one of them, and the first element of every other.
    """

    def __init__(self, sizes: StateSizes) -> None:
        super().__init__()
        self.head = nn.Parameter(torch.empty(_HEAD))
        self.embedding = nn.Parameter(torch.empty(sizes.rows, sizes.width))
        self.blocks = nn.ModuleList(
            nn.ParameterList(torch.empty(shape) for shape in block_shapes(sizes.width))
            for _ in range(_BLOCKS)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The mean of ``x`` (1024 numbers) times the head, plus that of all first elements."""
        with torch.no_grad():
            firsts = torch.cat(_firsts(self.parameters()))
        return (self.head * x).mean() + firsts.mean()


class FirstElementAdam(torch.optim.Optimizer):
    """Adam on the first element of every tensor, which is pulled to zero.

    A step costs microseconds whatever the size of the state, and changes every tensor in place, as
    any optimizer does. The moments are there, and not zero, from the beginning, as in a job
    that has run for a while.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], lr: float = 0.01) -> None:
        super().__init__(parameters, {"lr": lr, "betas": (0.9, 0.999), "eps": 1e-8})
        with torch.no_grad():
            for parameter in self._parameters():
                state = self.state[parameter]
                state["exp_avg"] = parameter * 0.1
                state["exp_avg_sq"] = parameter * parameter * 0.5

    def _parameters(self) -> list[nn.Parameter]:
        return [parameter for group in self.param_groups for parameter in group["params"]]

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """One element of each parameter and of its moments moves."""
        parameters = self._parameters()
        settings = self.param_groups[0]
        (fast, slow), lr = settings["betas"], settings["lr"]
        values = _firsts(parameters)
        means = _firsts(self.state[each]["exp_avg"] for each in parameters)
        squares = _firsts(self.state[each]["exp_avg_sq"] for each in parameters)
        torch._foreach_lerp_(means, values, 1 - fast)
        torch._foreach_mul_(squares, slow)
        torch._foreach_addcmul_(squares, values, values, 1 - slow)
        scales = torch._foreach_sqrt(squares)
        torch._foreach_add_(scales, settings["eps"])
        torch._foreach_addcdiv_(values, means, scales, -lr)


def _firsts(tensors: Iterable[torch.Tensor]) -> list[torch.Tensor]:
    """Views of the first elements."""
    return [tensor.detach().view(-1)[:1] for tensor in tensors]


class DeviceLikeSession(BatchSession):
    """Sleeps, computes next to nothing, and updates."""

    optimizer: torch.optim.Optimizer

    def __init__(
        self, model: nn.Module, batches: Sequence[Batch], wait_s: float, device: torch.device
    ) -> None:
        super().__init__(batches)
        self.model = model.train()
        self.optimizer = FirstElementAdam(model.parameters())
        self.device = device
        self.work = Work(1, "steps")
        self._wait_s = wait_s

    def step(self) -> Outcome:
        time.sleep(self._wait_s)
        loss: torch.Tensor = self.model(self._next_batch()["x"])
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        return Outcome(loss)


@dataclass(eq=False)
class DeviceLikeWorkload(ModelWorkload[StateSizes]):
    """A state of a given size, changed by every step."""

    def network(self, sizes: StateSizes) -> nn.Module:
        return State(sizes)

    def batches(
        self, sizes: StateSizes, device: torch.device, seed: int, data: Path | None
    ) -> Sequence[Batch]:
        if data is not None:
            raise BadValue(f"{self.name} reads no local data; leave out --data")
        generator = torch.Generator().manual_seed(seed)
        return [{"x": torch.randn(_HEAD, generator=generator).to(device)} for _ in range(BATCHES)]

    def apply(self, model: nn.Module, batch: Batch) -> torch.Tensor:
        loss: torch.Tensor = model(batch["x"])
        return loss

    def work(self, sizes: StateSizes) -> Work:
        return Work(1, "steps")

    def session(
        self,
        network: nn.Module,
        sizes: StateSizes,
        device: torch.device,
        seed: int,
        data: Path | None,
    ) -> Session:
        batches = self.batches(sizes, device, seed, data)
        return DeviceLikeSession(network, batches, sizes.wait_ms / 1e3, device)

    def sizes(self, scale: Scale) -> Mapping[str, int | str]:
        sizes = self._at(scale)
        return {
            **super().sizes(scale),
            "width": sizes.width,
            "blocks": _BLOCKS,
            "optimizer": "Adam on one element of each tensor",
        }

    def footprint(self, scale: Scale) -> Footprint:
        """By arithmetic, since sleeping through a rehearsal would tell nothing."""
        sizes = self._at(scale)
        count = _HEAD + sizes.rows * sizes.width + _BLOCKS * block_numel(sizes.width)
        weights = count * _FLOAT_BYTES
        return Footprint(
            parameters=count,
            weights=weights,
            gradients=_HEAD * _FLOAT_BYTES,
            optimizer=(_COPIES - 1) * weights,
            activations=BATCHES * _HEAD * _FLOAT_BYTES,
        )


_TABLE: Mapping[str, Mapping[Scale, StateSizes]] = {
    "device-like": {
        "quick": StateSizes(480),
        "standard": StateSizes(2_000),
        "paper": StateSizes(4_000),
    },
    "device-like-s": dict.fromkeys(("quick", "standard", "paper"), StateSizes(10)),
    "device-like-m": dict.fromkeys(("quick", "standard", "paper"), StateSizes(100)),
    "device-like-l": {
        "quick": StateSizes(240),
        "standard": StateSizes(1_000),
        "paper": StateSizes(1_000),
    },
    "device-like-xl": {
        "quick": StateSizes(960),
        "standard": StateSizes(4_000),
        "paper": StateSizes(10_000),
    },
}
"""PCcheck's sensitivity to size has 10, 100, 1,000 and 10,000 MB: s, m, l and xl at ``paper``."""


def workloads() -> Iterator[Workload]:
    for name, table in _TABLE.items():
        yield DeviceLikeWorkload(
            name,
            "train",
            table,
            "a stand-in for a step on an accelerator, no model: a wait of 255 ms and a state that "
            "changes in place; its sizes are ours, those of s to xl are those of PCcheck "
            "(ASPLOS 2025), figure 11",
        )
