"""Values as records, for the tracing systems: what a trace writes down of an argument."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from remora.core.tensors import fingerprint

TensorRecord = Callable[[torch.Tensor], dict[str, Any]]

_DEPTH = 2
_ITEMS = 8
_TEXT = 64
_PLAIN = (bool, int, float, type(None))


def describe(value: object, tensor_record: TensorRecord, depth: int = _DEPTH) -> Any:
    """A record of ``value`` that JSON can hold.

    Tensors as ``tensor_record`` says, containers by their first items, strings by their first
    characters, anything else by its type.
    """
    if isinstance(value, torch.Tensor):
        return tensor_record(value)
    if isinstance(value, _PLAIN):
        return value
    if isinstance(value, str):
        return value[:_TEXT]
    if isinstance(value, list | tuple) and depth:
        return [describe(item, tensor_record, depth - 1) for item in value[:_ITEMS]]
    if isinstance(value, dict) and depth:
        items = list(value.items())[:_ITEMS]
        return {str(key): describe(item, tensor_record, depth - 1) for key, item in items}
    return _type_name(value)


def shape_and_type(tensor: torch.Tensor) -> dict[str, Any]:
    """The least that identifies a tensor argument."""
    return {
        "dtype": str(tensor.dtype),
        "shape": list(tensor.shape),
        "device": str(tensor.device),
        "requires_grad": tensor.requires_grad,
    }


def every_attribute(tensor: torch.Tensor) -> dict[str, Any]:
    """All public attributes of a tensor, whatever they cost to read, and its fingerprint.

    This is what a full trace records: TrainCheck's published tracer turns each tensor into a
    dictionary of its attributes (596 reads a tensor), which is where nearly all its time goes.
    """
    record: dict[str, Any] = {}
    for name in dir(tensor):
        if not name.startswith("_"):
            try:
                value = getattr(tensor, name)
            except Exception:
                continue
            if not callable(value):
                record[name] = _attribute(value)
    if tensor.layout is torch.strided and not tensor.is_meta:
        record["digest"] = fingerprint(tensor)
    return record


def _attribute(value: object) -> Any:
    if isinstance(value, torch.Tensor):
        return shape_and_type(value)
    if isinstance(value, _PLAIN):
        return value
    return str(value)[:_TEXT]


def _type_name(value: object) -> str:
    return f"<{type(value).__module__}.{type(value).__qualname__}>"
