"""Read what a tensor holds, as cheaply as a question allows.

Of a tensor of at most 4,096 elements every one is read. Of a larger one a *sample* is: 32 elements
at each of 32 places, evenly spread, so that a sample touches 64 cache lines however large the
tensor is. Two samples that differ prove a change; two that are equal prove nothing.
Elements on the host are read straight from memory, without a copy by torch and without its
dispatcher.

``Tensor._version`` is not asked: fused optimizers and writes through ``.data`` or numpy leave it.

Sparse tensors and those with gaps between their elements are digested whole. On an accelerator a
sample is a small tensor there; nothing waits for the device (:func:`fetched`).
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from functools import partial
from math import isfinite
from typing import Any

import numpy as np
import torch
from torch.nn.parameter import is_lazy

from remora.check.digest import device_digest, digest

PLACES = 32
ELEMENTS_AT_A_PLACE = 32
SMALL = 4096
"""Elements of a tensor of which every one is read."""
_LINE = 64
"""Bytes of a cache line: places begin with one where the tensor does."""
_ZEROS = bytes(16 * SMALL)
PLAIN = (torch.Tensor, torch.nn.Parameter)
_FLOATS: dict[torch.dtype, np.dtype[Any]] = {
    torch.float16: np.dtype(np.float16),
    torch.float32: np.dtype(np.float32),
    torch.float64: np.dtype(np.float64),
    torch.complex64: np.dtype(np.float32),
    torch.complex128: np.dtype(np.float64),
}
NUMPYS: dict[torch.dtype, np.dtype[Any]] = {
    torch.float32: np.dtype(np.float32),
    torch.float64: np.dtype(np.float64),
    torch.int64: np.dtype(np.int64),
    torch.int32: np.dtype(np.int32),
}
"""Dtypes with which numpy reckons as fast as with any."""
_SUMMED = {
    torch.float16: torch.float32,
    torch.bfloat16: torch.float32,
    torch.float32: torch.float32,
    torch.float64: torch.float64,
}
"""By dtype, in which to sum."""
_BFLOAT16_EXPONENT = 0x7F80
"""The bits that are all 1 in a bfloat16, which numpy has not, if it is not finite."""

Token = Any
"""What stands for contents: bytes, an integer, a tensor on its device; None if unreadable."""
Fact = Any
"""A bool, None if undecided, or a 0-dim bool tensor on its device (:func:`fetched`)."""


class Contents:
    """Reads one variable. Remembers where its elements lie, and reads them there while they do."""

    __slots__ = ("_pointer", "_read", "_size", "remote", "whole")

    def __init__(self) -> None:
        self._pointer, self._size = 0, -1
        self._read: Callable[[], bytes] | None = None
        self.whole = True
        """Whether the last sample was of every element."""
        self.remote = False
        """Whether it lies on an accelerator."""

    def sample(self, tensor: torch.Tensor) -> Token:
        """Every element of a small tensor, some of a large one."""
        if (read := self._read) is not None:
            try:
                if tensor.data_ptr() == self._pointer and tensor.nbytes == self._size:
                    return read()
            except (RuntimeError, ValueError):
                pass  # sparse or fake by now
        return self._meet(tensor)

    def full(self, tensor: torch.Tensor) -> Token:
        """A digest of every element."""
        found = elements(tensor)
        if found is None:
            return None
        return digest(found) if is_on_host(found) else device_digest(found)

    def _meet(self, tensor: torch.Tensor) -> Token:
        self._read, self.whole, self.remote = None, True, False
        if is_plain(tensor):
            return self._meet_plain(tensor)
        found = elements(tensor)
        if found is None:
            return None
        if not is_on_host(found):
            self.whole, self.remote = found.numel() <= SMALL, True
            return _device_sample(found, self.whole)
        if not _lies_in_a_row(found):
            return digest(found)
        self.whole = found.numel() <= SMALL
        return _reader(found)()

    def _meet_plain(self, tensor: torch.Tensor) -> bytes:
        """What most tensors are. A gradient is a new one at every step, so this is paid often."""
        self._pointer, self._size = tensor.data_ptr(), tensor.nbytes
        self.whole = tensor.numel() <= SMALL
        self._read = read = _reader(tensor)
        return read()


def elements(tensor: torch.Tensor) -> torch.Tensor | None:
    """The plain tensor whose elements ``tensor`` stands for: itself, or a DTensor's local part.

    None where none can be read: lazy, meta and fake tensors, freed storage, other wrappers.
    """
    if is_lazy(tensor) or tensor.is_meta:
        return None
    if type(tensor).__torch_dispatch__ is not torch.Tensor.__torch_dispatch__:
        local = getattr(tensor, "_local_tensor", None)
        return elements(local) if type(local) is torch.Tensor else None
    tensor = tensor.detach()
    if tensor.layout is torch.strided and tensor.numel() and not tensor.data_ptr():
        return None
    return tensor


def is_on_host(tensor: torch.Tensor) -> bool:
    return bool(tensor.is_cpu)


def differ(before: Token, after: Token) -> Fact:
    """Whether the contents differ; None where they were not read in the same way, or not at all."""
    if before is None or type(before) is not type(after):
        return None
    if not isinstance(before, torch.Tensor):
        return bool(before != after)
    if before.device != after.device:
        return None
    if before.shape != after.shape or before.dtype != after.dtype:
        return True
    return _bits(before).ne(_bits(after)).any()


def is_zero(tensor: torch.Tensor, sample: Token, enough: bool) -> Fact:
    """Whether every element is zero. ``sample`` was read of it; it may be ``enough``."""
    if type(sample) is bytes:
        if _ZEROS.startswith(sample):
            if enough:
                return True
        elif (kind := _FLOATS.get(tensor.dtype)) is not None and np.frombuffer(sample, kind).any():
            return False
    found = _values(tensor)
    return None if found is None else _settled((_comparable(found) == 0).all())


def is_finite(tensor: torch.Tensor, sample: Token, enough: bool) -> Fact:
    """Whether no element is infinite or NaN. ``sample`` was read of it; it may be ``enough``."""
    if tensor.dtype not in _FLOATS and not (tensor.is_floating_point() or tensor.is_complex()):
        return True
    if enough and type(sample) is bytes:
        known = _all_finite(sample, tensor.dtype)
        if known is not None:
            return known
    found = _values(tensor)
    if found is None:
        return None
    if is_on_host(found) and has_finite_sum(found):
        return True
    return _settled(torch.isfinite(_comparable(found)).all())


def has_finite_sum(tensor: torch.Tensor) -> bool:
    """Then every element is finite, which is found at memory's speed. A sum may overflow, too."""
    summed = _SUMMED.get(tensor.dtype)
    if summed is None:
        return False
    return isfinite((tensor.detach() if tensor.requires_grad else tensor).sum(dtype=summed).item())


def _all_finite(sample: bytes, dtype: torch.dtype) -> bool | None:
    """None for a dtype that is not known here. Bytes are searched faster than bools are reduced."""
    if (kind := _FLOATS.get(dtype)) is not None:
        return b"\0" not in np.isfinite(np.frombuffer(sample, kind)).tobytes()
    if dtype is torch.bfloat16:
        bits = np.frombuffer(sample, np.uint16) & _BFLOAT16_EXPONENT
        return b"\0" not in (bits != _BFLOAT16_EXPONENT).tobytes()
    return None


def fetched(facts: Sequence[Fact]) -> list[bool | None]:
    """The facts, those on devices fetched with one wait a device."""
    known: list[bool | None] = list(facts)
    by_device: dict[torch.device, list[int]] = {}
    for index, fact in enumerate(facts):
        if isinstance(fact, torch.Tensor):
            by_device.setdefault(fact.device, []).append(index)
    for indices in by_device.values():
        for index, value in zip(
            indices, torch.stack([facts[i] for i in indices]).tolist(), strict=True
        ):
            known[index] = bool(value)
    return known


# ---------------------------------------------------------------- reading


def _lies_in_a_row(tensor: torch.Tensor) -> bool:
    if tensor.layout is not torch.strided or tensor.is_conj() or tensor.is_neg():
        return False
    return tensor.is_contiguous() or (
        tensor.dim() == 4 and tensor.is_contiguous(memory_format=torch.channels_last)
    )


def is_plain(tensor: torch.Tensor) -> bool:
    """Whether its elements are real and lie in a row on the host."""
    return (
        type(tensor) in PLAIN
        and is_on_host(tensor)
        and tensor.layout is torch.strided
        and tensor.is_contiguous()
        and not tensor.is_neg()
        and not tensor.is_conj()
        and (tensor.data_ptr() != 0 or not tensor.nbytes)
    )


def _reader(tensor: torch.Tensor) -> Callable[[], bytes]:
    """Copies the elements, or a sample of them, from where they lie now."""
    size = tensor.nbytes
    if not size:
        return bytes
    if tensor.numel() <= SMALL:
        return partial(ctypes.string_at, tensor.data_ptr(), size)
    block = ELEMENTS_AT_A_PLACE * tensor.element_size()
    memory: Any = (ctypes.c_char * size).from_address(tensor.data_ptr())
    return np.ndarray((PLACES,), f"V{block}", memory, strides=(stride_of(size, block),)).tobytes


def stride_of(size: int, block: int) -> int:
    """From one place of a sample to the next, in bytes.

    Args:
        size: of the tensor.
        block: of what is read at a place.
    """
    return max(block, (size - block) // (PLACES - 1) // _LINE * _LINE)


def _device_sample(tensor: torch.Tensor, whole: bool) -> torch.Tensor:
    """A copy on the device of all elements, or of every so many-th."""
    if tensor.layout is not torch.strided:
        tensor = (
            tensor.coalesce().values() if tensor.layout is torch.sparse_coo else tensor.to_dense()
        )
    flat = tensor.reshape(-1)
    if whole:
        return flat.clone()
    return flat[:: max(1, flat.numel() // (PLACES * ELEMENTS_AT_A_PLACE))].clone()


def _bits(tensor: torch.Tensor) -> torch.Tensor:
    """As integers: a NaN equals itself there, and 0 is not -0."""
    if tensor.dim() == 0:
        tensor = tensor.reshape(1)
    return tensor if tensor.dtype is torch.bool else tensor.view(torch.uint8)


def _values(tensor: torch.Tensor) -> torch.Tensor | None:
    """The elements that are kept, of a sparse tensor those alone."""
    found = elements(tensor)
    if found is None or found.layout is torch.strided:
        return found
    return found._values() if found.layout is torch.sparse_coo else found.values()


def _comparable(tensor: torch.Tensor) -> torch.Tensor:
    """torch compares no 8-bit floats."""
    return tensor.float() if tensor.is_floating_point() and tensor.itemsize == 1 else tensor


def _settled(fact: torch.Tensor) -> Fact:
    return bool(fact) if is_on_host(fact) else fact
