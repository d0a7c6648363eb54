"""How a tensor of any dtype lies in a safetensors file: as it is, or as a view of the same bytes.

Only dtypes that every supported release of safetensors knows are used. Complex numbers are viewed
as pairs of reals (a last dimension of 2), the narrow and exotic dtypes as integers of their width.
No view copies; the tag that undoes it is the dtype's own name.
"""

from __future__ import annotations

import torch

SAFETENSORS_NAMES: dict[torch.dtype, str] = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.float8_e4m3fn: "F8_E4M3",
    torch.float8_e5m2: "F8_E5M2",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint64: "U64",
    torch.uint32: "U32",
    torch.uint16: "U16",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
"""The dtypes that lie in a file as they are, and what a safetensors header calls them."""

DTYPES: dict[str, torch.dtype] = {
    str(dtype).removeprefix("torch."): dtype
    for dtype in vars(torch).values()
    if isinstance(dtype, torch.dtype)
}
"""Every dtype by its own name, without ``torch.``."""

_QUANTIZED = frozenset({"qint8", "quint8", "qint32", "quint4x2", "quint2x4"})
_INTEGER_OF_WIDTH = {1: torch.uint8, 2: torch.int16}
TAGS: dict[str, torch.dtype] = {
    name: dtype
    for name, dtype in DTYPES.items()
    if dtype not in SAFETENSORS_NAMES
    and name not in _QUANTIZED
    and (dtype.is_complex or dtype.itemsize in _INTEGER_OF_WIDTH)
}
"""The dtypes that lie in a file as a view, by the tag that undoes it."""
PLAIN = frozenset({torch.Tensor, torch.nn.Parameter})
"""The types of tensors that are nothing but their elements, and no subclass of them."""
_TAG_OF = {dtype: name for name, dtype in TAGS.items()}


def unsupported(tensor: torch.Tensor) -> str | None:
    """Why ``tensor`` cannot be stored, and what to do; None if it can."""
    if type(tensor) in PLAIN and tensor.layout is torch.strided and not (
        tensor.is_meta or tensor.is_quantized or tensor.is_nested
    ):  # fmt: skip
        return None
    if tensor.device.type == "meta":
        return "a meta tensor, which has no values; materialize it with to_empty() and fill it"
    if tensor.layout is not torch.strided:
        return f"a {tensor.layout} tensor; save its indices() and values(), or to_dense()"
    if tensor.is_quantized:
        return "a quantized tensor; save its int_repr(), scale and zero point"
    if tensor.is_nested:
        return "a nested tensor; save its values() and offsets()"
    if type(tensor).__torch_dispatch__ is not torch.Tensor.__torch_dispatch__:
        return f"a {type(tensor).__name__}, which wraps other tensors; save those"
    return None


def as_stored(tensor: torch.Tensor) -> tuple[torch.Tensor, str | None]:
    """``tensor`` in a dtype of :data:`SAFETENSORS_NAMES`, and the tag that :func:`restored` needs.

    The result shares memory with ``tensor``, unless that is a lazy conjugate or negation.
    """
    if tensor.dtype in SAFETENSORS_NAMES:
        return (tensor.resolve_neg() if tensor.is_neg() else tensor), None
    tag = _TAG_OF[tensor.dtype]
    if tensor.is_complex():
        return torch.view_as_real(tensor.resolve_conj().resolve_neg()), tag
    return tensor.view(_INTEGER_OF_WIDTH[tensor.element_size()]), tag


def restored(tensor: torch.Tensor, tag: str) -> torch.Tensor:
    """The tensor that :func:`as_stored` gave ``tag`` for, sharing memory with ``tensor``.

    Raises:
        ValueError: ``tensor`` cannot be the stored form of ``tag``.
    """
    dtype = TAGS.get(tag)
    if dtype is None:
        raise ValueError(f"unknown dtype {tag!r}")
    if dtype.is_complex:
        if tensor.dtype is not dtype.to_real() or not tensor.dim() or tensor.shape[-1] != 2:
            raise ValueError(f"{tag} is stored as pairs of {dtype.to_real()}, not so")
        return torch.view_as_complex(tensor if tensor.stride(-1) == 1 else tensor.contiguous())
    if tensor.dtype is not _INTEGER_OF_WIDTH[dtype.itemsize]:
        raise ValueError(f"{tag} is stored as {_INTEGER_OF_WIDTH[dtype.itemsize]}, not so")
    return tensor.view(dtype)
