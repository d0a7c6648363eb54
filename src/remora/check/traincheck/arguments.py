"""Values as TrainCheck writes them, ``{type: value}`` or ``{type: {attribute: value}}``, and as
the properties that we know them by (:mod:`remora.check.values`).

Kept of a tensor are its dtype, shape and requires_grad, of a module its mode, of anything else its
class; plain values are kept whole. In a trace, a tensor's number (TrainCheck's ``…_data_ID``) is
its ``identity``. What we have no property for is lost, and said so where it narrows a pattern.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from remora.check.values import LONGEST_TEXT, MOST_ITEMS

Typed = Any
"""``{type: value}``; read from a file, so whatever may be there."""

_PLAIN = {"NoneType": type(None), "bool": bool, "int": int, "float": float, "str": str}
_CONSTANTS = ("torch.dtype", "torch.layout", "torch.memory_format")
_SEQUENCES = ("list", "tuple", "torch.Size")
_BARE = {"timedelta": "datetime.timedelta", "OrderedDict": "collections.OrderedDict"}
"""Classes that TrainCheck writes without their module, those of Python's own besides."""
_PYTHONS_OWN = ("dict", "set", "frozenset", "bytes", "range", "slice", "complex", "object", "type")
_PARAMETER = "torch.nn.parameter.Parameter"
_TENSOR = re.compile(r"torch\.(?:\w+\.)?\w*Tensor")
_TENSOR_NAMES = {
    "torch.float32": "FloatTensor", "torch.float64": "DoubleTensor", "torch.float16": "HalfTensor",
    "torch.bfloat16": "BFloat16Tensor", "torch.int64": "LongTensor", "torch.int32": "IntTensor",
    "torch.int16": "ShortTensor", "torch.int8": "CharTensor", "torch.uint8": "ByteTensor",
    "torch.bool": "BoolTensor",
}  # fmt: skip
ATTRIBUTES = ("dtype", "shape", "ndim", "requires_grad", "training")
"""Of an object, those that are properties of ours too."""
_ID = "_data_ID"


class CannotSay(Exception):
    """One of the two has no words for what the other says; the message tells what."""


# ---------------------------------------------------------------- theirs, as properties


def properties_of(name: str, typed: Typed, into: dict[str, Any]) -> list[str]:
    """Put the properties of the value ``typed``, which is called ``name``, into ``into``.

    Returns what of it has no property: paths of attributes and types.
    """
    if not isinstance(typed, Mapping):
        return _of_plain(name, type(typed).__name__, typed, into)
    lost: list[str] = []
    for kind, value in typed.items():
        if kind in _PLAIN or kind in _CONSTANTS:
            lost += _of_plain(name, kind, value, into)
        elif kind in _SEQUENCES:
            lost += _of_sequence(name, kind, value, into)
        else:
            lost += _of_object(name, kind, value, into)
    return lost


def _of_plain(name: str, kind: str, value: Any, into: dict[str, Any]) -> list[str]:
    if isinstance(value, tuple(_PLAIN.values())) and len(str(value)) <= LONGEST_TEXT:
        into[name] = value
        return []
    return [f"{name} as {kind}"]


def _of_sequence(name: str, kind: str, items: Any, into: dict[str, Any]) -> list[str]:
    if not isinstance(items, list):
        return [f"that {name} is a {kind}"]
    into[f"{name}.length"] = len(items)
    values = [_number(item) for item in items]
    if len(items) <= 16 and None not in values:
        into[name] = tuple(values)
        return []
    return [
        lost
        for position, item in enumerate(items[:MOST_ITEMS])
        for lost in properties_of(f"{name}.{position}", item, into)
    ]


def _number(item: Any) -> bool | int | float | None:
    """A plain number, written with its type or without."""
    if isinstance(item, Mapping) and len(item) == 1:
        item = next(iter(item.values()))
    return item if isinstance(item, bool | int | float) else None


def _of_object(name: str, kind: str, attributes: Any, into: dict[str, Any]) -> list[str]:
    lost = []
    if (known := _our_kind(kind)) is not None:
        into[f"{name}.kind"] = known
    else:
        lost.append(f"that {name} is a {kind}")
    for attribute, value in attributes.items() if isinstance(attributes, Mapping) else ():
        if attribute in ATTRIBUTES and _is_flat(value):
            into[f"{name}.{attribute}"] = tuple(value) if isinstance(value, list) else value
        elif attribute.endswith(_ID) and _is_tensor(kind) and isinstance(value, int):
            shape = attributes.get("shape")
            same = tuple(shape) if isinstance(shape, list) and _is_flat(shape) else ()
            into[f"{name}.identity"] = (value, same)
        else:
            lost.append(f"{name}.{attribute}")
    return lost


def _is_flat(value: Any) -> bool:
    """Whether it is plain, or a list of what is plain."""
    each = value if isinstance(value, list) else [value]
    return all(isinstance(one, tuple(_PLAIN.values())) for one in each)


def _our_kind(kind: str) -> str | None:
    if kind == "torch.nn.Parameter":
        return _PARAMETER
    if _is_tensor(kind):
        return "torch.Tensor"
    if "." in kind or kind in _PYTHONS_OWN:
        return kind
    return _BARE.get(kind)


def _is_tensor(kind: str) -> bool:
    return kind in ("torch.nn.Parameter", _PARAMETER) or _TENSOR.fullmatch(kind) is not None


def pattern_of(arguments: Mapping[str, Typed]) -> tuple[dict[str, Any], list[str]]:
    """What arguments ask of a call, as properties that JSON can hold, and what of it is lost.

    An object's number is of another run, and never asked for.
    """
    found: dict[str, Any] = {}
    lost = [one for name, value in arguments.items() for one in properties_of(name, value, found)]
    lost += [name for name in found if name.endswith(".identity")]
    told = {*lost, *(f"{name}.length" for name in found)}
    pattern = {name: json_value(value) for name, value in found.items() if name not in told}
    return pattern, lost


def json_value(value: Any) -> Any:
    """``value`` as JSON can hold it.

    Raises:
        CannotSay: a number that is infinite or none.
    """
    if isinstance(value, float) and not math.isfinite(value):
        raise CannotSay(f"the number {value}")
    return list(map(json_value, value)) if isinstance(value, list | tuple) else value


# ---------------------------------------------------------------- properties, as theirs


def arguments_of(inputs: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Properties of inputs as TrainCheck writes them: ``{name: {type: value}}``.

    Raises:
        CannotSay: it would be read as something else, or there is no way to write it.
    """
    inputs = {name: json_value(value) for name, value in inputs.items()}
    written = _written(inputs)
    if repr(dict(sorted(pattern_of(written)[0].items()))) != repr(dict(sorted(inputs.items()))):
        raise CannotSay(f"inputs with {', '.join(inputs)}")
    return written


def _written(inputs: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    by_root: dict[str, dict[str, Any]] = defaultdict(dict)
    for name, value in inputs.items():
        root, _, attribute = name.partition(".")
        by_root[root][attribute] = value
    return {root: _typed(root, dict(found)) for root, found in by_root.items()}


def _typed(root: str, found: dict[str, Any]) -> dict[str, Any]:
    if "" in found:
        value = found.pop("")
        if set(found) - {"length"}:
            raise CannotSay(f"that {root} has {', '.join(found)} besides its value")
        return {_kind_of(value): value}
    kind = found.pop("kind", None)
    if not isinstance(kind, str):
        raise CannotSay(f"{', '.join(found)} of a {root} of any class")
    if deep := [name for name in found if name not in ATTRIBUTES]:
        raise CannotSay(f"{root}.{deep[0]}")
    return {_their_kind(root, kind, found): found}


def _kind_of(value: Any) -> str:
    if isinstance(value, list):
        return "list"
    is_dtype = isinstance(value, str) and value in _TENSOR_NAMES
    return "torch.dtype" if is_dtype else type(value).__name__


def _their_kind(root: str, kind: str, found: Mapping[str, Any]) -> str:
    if kind == _PARAMETER:
        return "torch.nn.Parameter"
    if kind == "torch.Tensor":
        name = _TENSOR_NAMES.get(str(found.get("dtype")))
        if name is None:
            raise CannotSay(f"that {root} is a tensor of any dtype")
        return f"torch.{name}"
    return next((bare for bare, full in _BARE.items() if full == kind), kind)
