"""Seeded random weights at the speed of memory.

Constructors draw every weight, often twice. Here large parameters are left unfilled by the
constructor, then filled from one block of normal numbers, repeated at a different phase for every
tensor. What remains is the kernel's handing out of fresh pages, one core at a time: so several
threads fill. (Asking for huge pages was tried: several times slower on a virtual machine.)

Buffers and fixed tables (rotary frequencies, sinusoids, position ids) are the model's own work and
stay as its constructor made them.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from torch.overrides import TorchFunctionMode

_BLOCK = 4 * 2**20 - 3
"""Elements in the block: 16 MiB of float32, odd so that rows of a matrix do not repeat."""

_PHASE = 1_000_003
"""How far the block is turned from one tensor to the next (a prime)."""

_PIECE = 2**20
"""Elements that a thread fills at a time."""

_MOST_FILLERS = 8
"""Threads beyond which memory, not the kernel, is what they wait for."""

_FILLS = frozenset(
    (
        *("normal_", "uniform_", "trunc_normal_", "orthogonal_", "erfinv_"),
        *("kaiming_normal_", "kaiming_uniform_", "xavier_normal_", "xavier_uniform_"),
        *("zero_", "zeros_", "ones_", "fill_", "constant_", "mul_", "add_", "clamp_"),
    )
)
"""Every function by which constructors fill a tensor, the steps of truncated normals included."""


class _LeaveUnfilled(TorchFunctionMode):
    """Makes fills of trainable matrices do nothing while a module is constructed."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__name__", "") in _FILLS:
            target = args[0] if args else kwargs.get("tensor")
            if isinstance(target, torch.nn.Parameter) and _is_drawn(target):
                return target
        return func(*args, **kwargs)


def _is_drawn(parameter: torch.Tensor) -> bool:
    return parameter.requires_grad and parameter.ndim >= 2


def build_seeded(
    construct: Callable[[], torch.nn.Module],
    device: torch.device,
    *,
    seed: int,
    std: float | None = None,
    dtype: torch.dtype = torch.float32,
) -> torch.nn.Module:
    """Construct a module on ``device`` with weights drawn from ``seed``, the same on every device.

    Trainable parameters of two or more dimensions are normal with standard deviation ``std``
    (None: ``sqrt(2 / fan_in)``, He et al. 2015, section 2.2), biases are zero, other vectors stay
    as the constructor made them (normalisation weights of one) unless they are learned embeddings.
    """
    previous = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with device, _LeaveUnfilled():
            module = construct()
    finally:
        torch.set_default_dtype(previous)
    if device.type != "meta":
        _fill(module, device, seed, std)
    return module


@torch.no_grad()
def _fill(module: torch.nn.Module, device: torch.device, seed: int, std: float | None) -> None:
    with ThreadPoolExecutor(_fillers(device)) as pool:
        block = _Block(device, seed, pool)
        for name, parameter in module.named_parameters():
            if not parameter.requires_grad or parameter.ndim == 0:
                continue
            if parameter.ndim == 1 and name.endswith("bias"):
                parameter.zero_()
            elif parameter.ndim >= 2 or not name.endswith("weight"):
                block.repeat_into(parameter, std if std is not None else _he_std(parameter))
        block.wait()


def _fillers(device: torch.device) -> int:
    """Threads to fill with: fresh pages come from the kernel one core at a time."""
    return min(os.cpu_count() or 1, _MOST_FILLERS) if device.type == "cpu" else 1


def _he_std(parameter: torch.Tensor) -> float:
    fan_in = parameter.numel() // parameter.shape[0] if parameter.ndim >= 2 else parameter.numel()
    return math.sqrt(2.0 / fan_in)


class _Block:
    """Normal numbers to repeat, drawn on the host so that they are the same on every device."""

    def __init__(self, device: torch.device, seed: int, pool: Executor) -> None:
        generator = torch.Generator().manual_seed(seed)
        self._normal = torch.empty(_BLOCK, dtype=torch.float32).normal_(generator=generator)
        self._normal = self._normal.to(device)
        self._pool = pool
        self._copies: list[Future[None]] = []
        self._phase = 0
        self._scaled = self._normal
        self._scaled_to: tuple[float, torch.dtype] = (1.0, torch.float32)

    def repeat_into(self, parameter: torch.Tensor, std: float) -> None:
        """Have the pool fill ``parameter``; no two pieces overlap, so their order is free."""
        numbers = self._with(std, parameter.dtype)
        flat = parameter.view(-1)
        done, start = 0, self._phase
        while done < flat.numel():
            piece = numbers[start : start + min(_PIECE, flat.numel() - done)]
            target = flat[done : done + piece.numel()]
            self._copies.append(self._pool.submit(_copy, piece, target))
            done += piece.numel()
            start = (start + piece.numel()) % _BLOCK
        self._phase = (self._phase + _PHASE) % _BLOCK

    def wait(self) -> None:
        """Return once all that was asked for is filled."""
        for copy in self._copies:
            copy.result()
        self._copies.clear()

    def _with(self, std: float, dtype: torch.dtype) -> torch.Tensor:
        """The block with that deviation and type; only the last one made is kept."""
        if self._scaled_to != (std, dtype):
            self.wait()
            self._scaled = (self._normal * std).to(dtype)
            self._scaled_to = (std, dtype)
        return self._scaled


def _copy(source: torch.Tensor, target: torch.Tensor) -> None:
    """Copy without the GIL; on the host by one thread alone, however many PyTorch would take."""
    if target.device.type == "cpu":
        np.copyto(target.detach().view(torch.uint8).numpy(), source.view(torch.uint8).numpy())
    else:
        target.detach().copy_(source)
