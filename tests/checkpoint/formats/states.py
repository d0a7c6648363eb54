"""A state with everything that formats disagree about."""

from __future__ import annotations

from collections import Counter, OrderedDict
from typing import Any

import numpy as np
import torch
from torch import nn

from remora.checkpoint.state.parts import Parts
from remora.checkpoint.state.tree import Flat, flatten
from remora.core.tensors import fingerprint


class Net(nn.Module):
    """Tied weights, and tensors of the dtypes and shapes that break writers."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(5, 4)
        self.head = nn.Linear(4, 5, bias=False)
        self.head.weight = self.embed.weight
        self.norm = nn.BatchNorm1d(4)
        for dtype in (
            torch.bfloat16, torch.float16, torch.float8_e4m3fn, torch.float8_e5m2, torch.bool,
            torch.complex64, torch.float64, torch.uint16, torch.int8,
        ):  # fmt: skip
            name = f"of_{dtype}".replace("torch.", "")
            self.register_buffer(name, torch.tensor([[1, 0], [0, 1], [1, 1]]).to(dtype))
            self.register_buffer(f"{name}_scalar", torch.tensor(1).to(dtype))
            self.register_buffer(f"{name}_empty", torch.empty(0, 3).to(dtype))
        self.register_buffer("turned", torch.arange(6.0).reshape(2, 3).t())
        self.register_buffer("row", torch.arange(6.0).reshape(2, 3)[1])


def make_state() -> dict[str, Any]:
    """Of a model, an optimizer after a step, and plain values of every kind."""
    torch.manual_seed(0)
    model = Net()
    optimizer = torch.optim.AdamW(model.parameters())
    for parameter in model.parameters():
        parameter.grad = torch.randn_like(parameter)
    optimizer.step()
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, [3, 3, 5])
    values = {
        "counts": Counter({3: 2}),
        "ordered": OrderedDict({1: (1, 2)}),
        "array": np.arange(3.0),
        "names": np.array(["a", "b"]),
        "number": np.float32(1.5),
        "pair": (torch.ones(2), {4}),
        "nothing": {},
    }
    parts = Parts(model=model, optimizer=optimizer, scheduler=scheduler, values=values)
    return parts.capture()


def same_state(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Equal in every plain value, in what is shared, and in every bit of every tensor."""
    first, second = flatten(one), flatten(other)
    return first.document == second.document and prints(first) == prints(second)


def prints(flat: Flat) -> dict[str, str]:
    """Dtype, shape and elements of each tensor, in 16 digits."""
    return {name: fingerprint(tensor) for name, tensor in flat.tensors.items()}
