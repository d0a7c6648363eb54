"""Values as records, for the tracing systems: what a trace writes down of an argument."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch

from remora.core.tensors import fingerprint

TensorRecord = Callable[[torch.Tensor], dict[str, Any]]
ObjectRecord = Callable[[object], Any]

_DEPTH = 2
_ITEMS = 8
_TEXT = 64
_PLAIN = (bool, int, float, type(None))


def type_name(value: object) -> str:
    return f"<{type(value).__module__}.{type(value).__qualname__}>"


def describe(
    value: object,
    tensor_record: TensorRecord,
    object_record: ObjectRecord = type_name,
    depth: int = _DEPTH,
) -> Any:
    """A record of ``value`` that JSON can hold.

    Tensors as ``tensor_record`` says, containers by their first items, strings by their first
    characters, anything else as ``object_record`` says.
    """
    if isinstance(value, torch.Tensor):
        return tensor_record(value)
    if isinstance(value, _PLAIN):
        return value
    if isinstance(value, str):
        return value[:_TEXT]
    if isinstance(value, list | tuple) and depth:
        return [describe(item, tensor_record, object_record, depth - 1) for item in value[:_ITEMS]]
    if isinstance(value, dict) and depth:
        items = list(value.items())[:_ITEMS]
        return {
            str(key): describe(item, tensor_record, object_record, depth - 1) for key, item in items
        }
    return object_record(value)


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
    record = {name: _attribute(value) for name, value in _attributes(tensor)}
    if tensor.layout is torch.strided and not tensor.is_meta:
        record["digest"] = fingerprint(tensor)
    return record


def every_member(value: object) -> dict[str, Any]:
    """An object as its type and all its public attributes, the ones that are plain by value."""
    members = {name: describe(each, shape_and_type, depth=0) for name, each in _attributes(value)}
    return {"type": type_name(value), **members}


def _attributes(value: object) -> Iterator[tuple[str, Any]]:
    """None of an object that cannot tell yet, as a module whose ``__init__`` is not over."""
    try:
        names = dir(value)
    except Exception:
        names = []
    for name in names:
        if not name.startswith("_"):
            try:
                attribute = getattr(value, name)
            except Exception:
                continue
            if not callable(attribute):
                yield name, attribute


def _attribute(value: object) -> Any:
    if isinstance(value, torch.Tensor):
        return shape_and_type(value)
    if isinstance(value, _PLAIN):
        return value
    return str(value)[:_TEXT]
