"""What of a value is worth knowing: a few flat properties, cheap to read, the same in every run.

A tensor becomes its dtype, shape and the like, a module its class and mode, a number itself.
What differs between two runs of one healthy program, such as an address, an object's id or a
device, is no property: it cannot be learned by mistake.

====================  ==============================================================
value                 properties of ``x``
====================  ==============================================================
None, bool, number    ``x``
str (short), dtype    ``x``
tensor                ``x.kind x.dtype x.shape x.ndim x.requires_grad``
module                ``x.kind x.training``
list, tuple           ``x.length``; ``x`` where all are plain; ``x.0 …`` of the first few
dict                  ``x.length``; ``x.key …`` of the first few string keys
anything else         ``x.kind``
====================  ==============================================================
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

LONGEST_TEXT = 80
MOST_ITEMS = 4
"""Items of a sequence or mapping that are looked into."""
DEEPEST = 2
_PLAIN = (bool, int, float, str, type(None))

Getter = Any


def properties(name: str, value: Any, into: dict[str, Any], depth: int = 0) -> None:
    """Put the properties of ``value``, which is called ``name``, into ``into``."""
    kind = type(value)
    if kind in _PLAIN:
        if kind is not str or len(value) <= LONGEST_TEXT:
            into[name] = value
    elif is_tensor(kind):
        _of_tensor(name, value, into)
    elif kind in (list, tuple) or issubclass(kind, tuple):
        _of_sequence(name, value, into, depth)
    elif issubclass(kind, Mapping):
        _of_mapping(name, value, into, depth)
    elif is_module(kind):
        into[f"{name}.kind"] = class_name(kind)
        into[f"{name}.training"] = value.__dict__.get("training")
    elif is_torch_constant(kind):
        into[name] = str(value)
    else:
        into[f"{name}.kind"] = class_name(kind)


def read(value: Any, path: str) -> Any:
    """The one property of ``value`` at ``path`` (such as ``dtype`` or ``0.shape``; empty for the
    value itself), or ``ABSENT``.
    """
    from remora.check.conditions import ABSENT

    found: dict[str, Any] = {}
    properties("", value, found)
    return found.get(f".{path}" if path else "", ABSENT)


def _of_tensor(name: str, tensor: Any, into: dict[str, Any]) -> None:
    into[f"{name}.kind"] = class_name(type(tensor))
    into[f"{name}.dtype"] = str(tensor.dtype)
    into[f"{name}.shape"] = tuple(tensor.shape)
    into[f"{name}.ndim"] = tensor.dim()
    into[f"{name}.requires_grad"] = tensor.requires_grad


def _of_sequence(name: str, items: Any, into: dict[str, Any], depth: int) -> None:
    into[f"{name}.length"] = len(items)
    if len(items) <= 16 and all(type(item) in (bool, int, float) for item in items):
        into[name] = tuple(items)
    elif depth < DEEPEST:
        for position, item in enumerate(items[:MOST_ITEMS]):
            properties(f"{name}.{position}", item, into, depth + 1)


def _of_mapping(name: str, mapping: Any, into: dict[str, Any], depth: int) -> None:
    into[f"{name}.kind"] = class_name(type(mapping))
    if depth < DEEPEST and isinstance(mapping, dict):
        into[f"{name}.length"] = len(mapping)
        keys = [key for key in mapping if type(key) is str and key.isidentifier()]
        for key in keys[:MOST_ITEMS]:
            properties(f"{name}.{key}", mapping[key], into, depth + 1)


def class_name(kind: type) -> str:
    """``torch.nn.modules.linear.Linear``; no module for what Python itself brings."""
    module = kind.__module__
    return kind.__qualname__ if module == "builtins" else f"{module}.{kind.__qualname__}"


def is_tensor(kind: type) -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and issubclass(kind, torch.Tensor)


def is_module(kind: type) -> bool:
    modules = sys.modules.get("torch.nn.modules.module")
    return modules is not None and issubclass(kind, modules.Module)


def is_torch_constant(kind: type) -> bool:
    """A dtype, layout or memory format; a device is none, since it is never learned."""
    return kind.__module__ == "torch" and kind.__name__ in ("dtype", "layout", "memory_format")
