"""Single operators under a synthetic load: what a system adds to the smallest piece of work."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import nn
from torch.nn.functional import gelu, scaled_dot_product_attention

from remora.core.errors import BadValue
from remora.workloads.contract import Scale, Work, Workload
from remora.workloads.model_workload import BATCHES, ModelWorkload
from remora.workloads.sessions import Batch


class MicroSizes(Protocol):
    """Sizes of one operator, and the operator they make."""

    def network(self) -> nn.Module: ...
    def input_shape(self) -> tuple[int, ...]: ...


@dataclass(frozen=True)
class Matmul:
    """(rows, width) times (width, width)."""

    rows: int
    width: int

    def network(self) -> nn.Module:
        return nn.Linear(self.width, self.width, bias=False)

    def input_shape(self) -> tuple[int, ...]:
        return (self.rows, self.width)


@dataclass(frozen=True)
class Conv:
    """A 3×3 convolution that keeps channels and image size."""

    batch: int
    channels: int
    image: int

    def network(self) -> nn.Module:
        return nn.Conv2d(self.channels, self.channels, 3, padding=1, bias=False)

    def input_shape(self) -> tuple[int, ...]:
        return (self.batch, self.channels, self.image, self.image)


@dataclass(frozen=True)
class Attention:
    """Causal attention of a sequence with itself; no weights."""

    batch: int
    heads: int
    sequence: int
    head_width: int

    def network(self) -> nn.Module:
        return _SelfAttention()

    def input_shape(self) -> tuple[int, ...]:
        return (self.batch, self.heads, self.sequence, self.head_width)


@dataclass(frozen=True)
class Elementwise:
    """``gelu(x * scale + shift)``, three operators bound by memory."""

    rows: int
    width: int

    def network(self) -> nn.Module:
        return _ScaleShiftGelu(self.width)

    def input_shape(self) -> tuple[int, ...]:
        return (self.rows, self.width)


class _SelfAttention(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return scaled_dot_product_attention(x, x, x, is_causal=True)


class _ScaleShiftGelu(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(width))
        self.shift = nn.Parameter(torch.zeros(width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return gelu(x * self.scale + self.shift)


@dataclass(eq=False)
class MicroWorkload(ModelWorkload[MicroSizes]):
    """One call of one operator on normal numbers; the outcome is its result."""

    def network(self, sizes: MicroSizes) -> nn.Module:
        return sizes.network()

    def batches(
        self, sizes: MicroSizes, device: torch.device, seed: int, data: Path | None
    ) -> Sequence[Batch]:
        if data is not None:
            raise BadValue(f"{self.name} reads no local data; leave out --data")
        if device.type == "meta":
            return [{"x": torch.empty(sizes.input_shape(), device=device)}] * BATCHES
        generator = torch.Generator().manual_seed(seed)
        return [
            {"x": torch.randn(sizes.input_shape(), generator=generator).to(device)}
            for _ in range(BATCHES)
        ]

    def apply(self, model: nn.Module, batch: Batch) -> torch.Tensor:
        result: torch.Tensor = model(batch["x"])
        return result

    def work(self, sizes: MicroSizes) -> Work:
        return Work(1, "calls")


_TABLE: Mapping[str, Mapping[Scale, MicroSizes]] = {
    "matmul": {
        "quick": Matmul(1024, 1024),
        "standard": Matmul(4096, 2048),
        "paper": Matmul(4096, 4096),
    },
    "conv": {
        "quick": Conv(8, 64, 56),
        "standard": Conv(32, 64, 56),
        "paper": Conv(128, 64, 56),
    },
    "attention": {
        "quick": Attention(1, 12, 1024, 64),
        "standard": Attention(1, 12, 2048, 64),
        "paper": Attention(8, 32, 2048, 128),
    },
    "elementwise": {
        "quick": Elementwise(4096, 1024),
        "standard": Elementwise(8192, 4096),
        "paper": Elementwise(16384, 4096),
    },
}


def workloads() -> Iterator[Workload]:
    for operator, table in _TABLE.items():
        yield MicroWorkload(
            f"micro-{operator}",
            "forward",
            table,
            "an operator of Genie's synthetic microbenchmark; the sizes are ours, "
            "those of a layer of ResNet-50 or of a 7B language model",
        )
