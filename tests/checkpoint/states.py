"""A state with tensors of every kind."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from tests.checkpoint.saving import CHUNK

from remora.checkpoint.layout.slot_file import SlotLayout, plan

DOCUMENT = b'{"step":1}'


def many(step: int = 1) -> dict[str, torch.Tensor]:
    """Tensors of every kind that a state may hold, about twenty chunks of them."""
    draw = torch.Generator().manual_seed(step)
    return {
        "matrix": torch.randn(100, 100, generator=draw),
        "transposed": torch.randn(30, 70, generator=draw).T,
        "channels last": torch.randn(2, 3, 8, 8, generator=draw).to(
            memory_format=torch.channels_last
        ),
        "every other": torch.arange(999 + step, dtype=torch.int64)[::2],
        "expanded": torch.tensor([float(step)]).expand(50),
        "scalar": torch.tensor(step, dtype=torch.float64),
        "nothing": torch.empty(0, 5),
        "flags": torch.rand(333, generator=draw) > 0.5,
        "brain": torch.randn(1001, generator=draw).to(torch.bfloat16),
        "parameter": torch.nn.Parameter(torch.randn(77, generator=draw)),
        "eighth": torch.randn(64, generator=draw).to(torch.float8_e4m3fn),
    }


def layout_of(tensors: Mapping[str, torch.Tensor], document: bytes = DOCUMENT) -> SlotLayout:
    return plan(tensors, len(document), chunk_bytes=CHUNK)
