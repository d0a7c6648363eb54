"""Values as records, for the tracing systems: what a full trace writes down of an argument."""

from __future__ import annotations

from typing import Any

import torch

from remora.core.tensors import fingerprint

_DEPTH = 2
_ITEMS = 8
_PLAIN = (bool, int, float, str, type(None))


def describe(value: object, *, contents: bool, depth: int = _DEPTH) -> Any:
    """A record of ``value`` that JSON can hold.

    Tensors give dtype, shape, strides, device and autograd facts, and with ``contents`` a
    fingerprint of every element; containers their first items; anything else its type.
    """
    if isinstance(value, torch.Tensor):
        return _describe_tensor(value, contents=contents)
    if isinstance(value, _PLAIN):
        return value if not isinstance(value, str) else value[:64]
    if isinstance(value, list | tuple) and depth:
        return [describe(item, contents=contents, depth=depth - 1) for item in value[:_ITEMS]]
    if isinstance(value, dict) and depth:
        items = list(value.items())[:_ITEMS]
        return {str(k): describe(v, contents=contents, depth=depth - 1) for k, v in items}
    return f"<{type(value).__module__}.{type(value).__qualname__}>"


def _describe_tensor(tensor: torch.Tensor, *, contents: bool) -> dict[str, Any]:
    record = {
        "dtype": str(tensor.dtype),
        "shape": list(tensor.shape),
        "device": str(tensor.device),
        "requires_grad": tensor.requires_grad,
        "is_leaf": tensor.is_leaf,
        "version": tensor._version if not tensor.is_inference() else None,
    }
    if contents and tensor.layout is torch.strided and not tensor.is_meta:
        record["digest"] = fingerprint(tensor)
    return record
