"""Tensors as raw memory: what is said of them, views to send them from, memory to receive into."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable, Sequence
from typing import Annotated

import msgspec
import numpy as np
import torch

from remora.core.errors import BadValue, WireDamaged
from remora.core.tensors import tensor_bytes
from remora.remote.wire.limits import Limits

NAMES = (
    "bool", "uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64",
    "float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz", "float8_e8m0fnu",
    "float16", "bfloat16", "float32", "float64", "complex32", "complex64", "complex128",
)  # fmt: skip
DTYPES: dict[str, torch.dtype] = {name: getattr(torch, name) for name in NAMES}
"""By the name that crosses the wire: every dtype whose elements are whole bytes."""
NAME_OF = {dtype: name for name, dtype in DTYPES.items()}
ITEM_BYTES = {name: dtype.itemsize for name, dtype in DTYPES.items()}
_BY_NUMPY = frozenset(
    getattr(torch, name)
    for name in ("uint8", "int8", "int16", "int32", "int64", "float16", "float32", "float64")
)
INLINE = -1
"""The place of a tensor whose bytes are in the body of its message."""


class Spec(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What a message says of one tensor."""

    dtype: str
    shape: tuple[Annotated[int, msgspec.Meta(ge=0)], ...]
    place: int = INLINE
    """Its offset in the sender's shared memory, or :data:`INLINE`."""

    @property
    def bytes(self) -> int:
        """Its size. Of a spec that arrived, ask after :func:`check` only."""
        return math.prod(self.shape) * ITEM_BYTES[self.dtype]


Allocate = Callable[[int], np.ndarray]
"""Fresh memory of so many bytes, 1-D uint8, whatever is in it."""


def check(specs: Sequence[Spec], limits: Limits) -> list[int]:
    """The sizes of the tensors that ``specs`` announce, in bytes. Nothing is allocated.

    Raises:
        WireDamaged: a dtype that is not known, or more than ``limits`` allow.
    """
    sizes = []
    for spec in specs:
        shape = spec.shape
        size = math.prod(shape) * ITEM_BYTES.get(spec.dtype, 0)
        if not 0 < size <= limits.tensor_bytes or len(shape) > limits.dimensions:
            _check_closely(spec, limits)
        sizes.append(size)
    if sum(sizes) > limits.message_bytes or len(sizes) > limits.tensors:
        raise WireDamaged(f"{limits.refuses_sizes(sizes)}, and it was announced")
    return sizes


def _check_closely(spec: Spec, limits: Limits) -> None:
    """Of a tensor that is empty, or refused."""
    item_bytes = ITEM_BYTES.get(spec.dtype)
    if item_bytes is None:
        raise WireDamaged(f"a tensor of the unknown dtype {spec.dtype[:40]!r} was announced")
    refusal = limits.refuses_shape(spec.shape, item_bytes)
    if refusal is not None:
        raise WireDamaged(f"{refusal}, and it was announced")


def describe(tensors: Sequence[torch.Tensor], limits: Limits) -> tuple[list[Spec], int]:
    """What is said of ``tensors`` on the wire, and their size in bytes, all together.

    Raises:
        BadValue: one is not on the CPU, not strided, or of a dtype without whole bytes; or one, or
            all together, are too large.
    """
    specs, total = [], 0
    for tensor in tensors:
        name = NAME_OF.get(tensor.dtype)
        if name is None or tensor.layout is not torch.strided or not tensor.is_cpu:
            raise BadValue(_cannot_be_sent(tensor, name))
        shape, size = tuple(tensor.shape), tensor.nbytes
        if size > limits.tensor_bytes or len(shape) > limits.dimensions:
            raise BadValue(f"{limits.refuses_shape(shape, ITEM_BYTES[name])}; send it in parts")
        specs.append(Spec(name, shape))
        total += size
    if total > limits.message_bytes or len(specs) > limits.tensors:
        refusal = limits.refuses_sizes([tensor.nbytes for tensor in tensors])
        raise BadValue(f"{refusal}; send it in parts")
    return specs, total


def _cannot_be_sent(tensor: torch.Tensor, name: str | None) -> str:
    if tensor.layout is not torch.strided:
        return f"a tensor of the layout {tensor.layout} cannot be sent; call .to_dense() first"
    if name is None:
        return f"a tensor of dtype {tensor.dtype} cannot be sent; choose from: {', '.join(NAMES)}"
    return f"a tensor on {tensor.device} cannot be sent; call .cpu() first"


def view_of(tensor: torch.Tensor) -> memoryview:
    """The bytes of ``tensor``, row-major; its own memory where that is contiguous."""
    plain = tensor.dtype in _BY_NUMPY and not tensor.requires_grad and tensor.is_contiguous()
    if plain and tensor.numel() and not tensor.is_neg():
        return tensor.numpy().data.cast("B")  # three times as fast as the general way
    return tensor_bytes(tensor)


def copy_of(tensor: torch.Tensor) -> bytes:
    """The bytes of a small ``tensor``, row-major, copied: faster than to make a view of them."""
    if tensor.is_contiguous() and not tensor.is_neg() and not tensor.is_conj():
        return ctypes.string_at(tensor.data_ptr(), tensor.nbytes)
    return bytes(tensor_bytes(tensor))


def tensor_in(memory: np.ndarray | bytearray, spec: Spec) -> torch.Tensor:
    """The tensor that ``spec`` describes, in ``memory``: bytes, exactly as many as it has."""
    dtype, shape = DTYPES[spec.dtype], spec.shape
    if not len(memory):  # of which torch would make no tensor
        return torch.empty(0, dtype=torch.uint8).view(dtype).view(shape)
    flat = torch.frombuffer(memory, dtype=dtype)
    return flat if len(shape) == 1 else flat.view(shape)


def without_memory(spec: Spec) -> torch.Tensor:
    """What stands for a tensor that found no memory: all but its elements."""
    return torch.empty(spec.shape, dtype=DTYPES[spec.dtype], device="meta")
