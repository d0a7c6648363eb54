"""What of a value is worth knowing: a few flat properties, cheap to read, the same in every run.

A tensor becomes its dtype, shape and the like, a module its class and mode, a number itself.
What differs between two runs of one healthy program, such as an address, an object's id or a
device, is no property: it cannot be learned by mistake. The one exception is ``identity``, which
tells two values apart while a call or a step lasts. It is a tuple, as a size is, and nothing may
be learned of a tuple's value.

====================  ==============================================================
value                 properties of ``x``
====================  ==============================================================
None, bool, number    ``x``
str (short), dtype    ``x``
tensor                ``x.kind x.dtype x.shape x.ndim x.requires_grad x.identity``
module                ``x.kind x.training x.identity``
list, tuple           ``x.length``; ``x`` where all are plain; ``x.0 …`` of the first few
dict                  ``x.kind x.length``; ``x.key …`` of the first few string keys
process group         ``x.kind x.ranks x.identity``
anything else         ``x.kind x.identity``
====================  ==============================================================
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any
from weakref import ref

from remora.check.loaders import collate, rows_due

LONGEST_TEXT = 80
MOST_ITEMS = 4
"""Items of a sequence or mapping that are looked into."""
LONGEST_PLAIN = 16
"""A sequence of plain items is known whole up to this length."""
DEEPEST = 2
_CONSTANTS = frozenset(
    {
        ("torch", "dtype"), ("torch", "layout"), ("torch", "memory_format"),
        ("torch._C._distributed_c10d", "RedOpType"),
    }
)  # fmt: skip
_PLAIN = (bool, int, float, str, type(None))

PLAIN, TENSOR, SEQUENCE, MAPPING, MODULE, CONSTANT, OTHER, TAKES_OVER = range(8)
"""Sorts of value, each with its own properties. The last are tensors of classes that are told of
whatever is asked of them (``__torch_function__``)."""


def properties(name: str, value: Any, into: dict[str, Any], depth: int = 0) -> None:
    """Put the properties of ``value``, which is called ``name``, into ``into``."""
    sort = sort_of(type(value))
    if sort == PLAIN:
        if type(value) is not str or len(value) <= LONGEST_TEXT:
            into[name] = value
    elif sort == TENSOR:
        _of_tensor(name, value, into)
    elif sort == SEQUENCE:
        _of_sequence(name, value, into, depth)
    elif sort == MAPPING:
        _of_mapping(name, value, into, depth)
    elif sort == CONSTANT:
        into[name] = text_of(value)
    else:
        for suffix, get in GETTERS[sort]:
            if (found := get(value)) is not None:
                into[f"{name}.{suffix}"] = found


# ---------------------------------------------------------------- by sort


def _sort_of(kind: type) -> int:
    if kind in _PLAIN:
        return PLAIN
    if is_tensor(kind):
        return TAKES_OVER if _takes_over(kind) else TENSOR
    if kind is list or issubclass(kind, tuple):
        return SEQUENCE
    if issubclass(kind, Mapping):
        return MAPPING
    if is_module(kind):
        return MODULE
    return CONSTANT if is_torch_constant(kind) else OTHER


def _class_name(kind: type) -> str:
    """``torch.nn.modules.linear.Linear``; no module for what Python itself brings."""
    module = kind.__module__
    return kind.__qualname__ if module == "builtins" else f"{module}.{kind.__qualname__}"


sort_of: Callable[[type], int] = lru_cache(maxsize=1024)(_sort_of)
class_name: Callable[[type], str] = lru_cache(maxsize=1024)(_class_name)


def is_tensor(kind: type) -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and issubclass(kind, torch.Tensor)


def _takes_over(kind: Any) -> bool:
    torch: Any = sys.modules["torch"]
    return kind.__torch_function__ not in (
        torch.Tensor.__torch_function__,
        torch._C._disabled_torch_function_impl,
    )


def is_module(kind: type) -> bool:
    modules = sys.modules.get("torch.nn.modules.module")
    return modules is not None and issubclass(kind, modules.Module)


def is_torch_constant(kind: type) -> bool:
    """A dtype, layout, memory format or reduction; a device is none: it is never learned."""
    return (kind.__module__, kind.__name__) in _CONSTANTS


def plain_items(items: Any) -> tuple[Any, ...] | None:
    """A sequence whose items are all plain, whole."""
    plain = len(items) <= LONGEST_PLAIN and all(type(one) in (bool, int, float) for one in items)
    return tuple(items) if plain else None


def known_keys(mapping: dict[Any, Any]) -> list[str]:
    """The keys whose values are looked into."""
    keys = [key for key in mapping if type(key) is str and key.isidentifier()]
    return keys[:MOST_ITEMS]


def _of_tensor(name: str, tensor: Any, into: dict[str, Any]) -> None:
    """What its getters tell, written out: while learning, every tensor is described."""
    into[f"{name}.kind"] = class_name(type(tensor))
    into[f"{name}.dtype"] = text_of(tensor.dtype)
    into[f"{name}.shape"] = tuple(tensor.shape)
    into[f"{name}.ndim"] = tensor.dim()
    into[f"{name}.requires_grad"] = tensor.requires_grad
    if (found := identity(tensor)) is not None:
        into[f"{name}.identity"] = found


def _of_sequence(name: str, items: Any, into: dict[str, Any], depth: int) -> None:
    into[f"{name}.length"] = len(items)
    if (plain := plain_items(items)) is not None:
        into[name] = plain
    elif depth < DEEPEST:
        for position, item in enumerate(items[:MOST_ITEMS]):
            properties(f"{name}.{position}", item, into, depth + 1)


def _of_mapping(name: str, mapping: Any, into: dict[str, Any], depth: int) -> None:
    into[f"{name}.kind"] = class_name(type(mapping))
    if depth < DEEPEST and isinstance(mapping, dict):
        into[f"{name}.length"] = len(mapping)
        for key in known_keys(mapping):
            properties(f"{name}.{key}", mapping[key], into, depth + 1)


# ---------------------------------------------------------------- one property


@lru_cache(maxsize=256)
def text_of(constant: Any) -> str:
    """``torch.float32``; there are few, so each is written once."""
    return str(constant)


def identity(value: Any) -> tuple[Any, ...] | None:
    """Equal for two values exactly if they are one object or, for tensors, one piece of memory.

    A tensor's storage is referred to weakly: once it is freed, a new one at the same address has
    another identity. None for what cannot be told: an object without weak references or a hash.
    """
    if sort_of(type(value)) in (TENSOR, TAKES_OVER):
        try:
            storage = value.untyped_storage()
            place = value.storage_offset(), tuple(value.shape)
        except (NotImplementedError, RuntimeError):
            pass  # no storage of its own: sparse, or a wrapper
        else:
            return id(storage), ref(storage), *place
    try:
        held = ref(value)
        hash(held)
    except TypeError:
        return None
    return id(value), held  # the id first: to compare it is cheap, and runs nobody's __eq__


def _kind(value: Any) -> str:
    return class_name(type(value))


def _training(module: Any) -> Any:
    return module.__dict__.get("training")


def _ranks(value: Any) -> tuple[int, ...] | None:
    """Of a process group of torch.distributed; an empty one is of ranks this one is not among."""
    if type(value).__name__ != "ProcessGroup":
        return None
    ranks = sys.modules["torch.distributed"].get_process_group_ranks
    try:
        return tuple(ranks(value))
    except (KeyError, ValueError, RuntimeError):  # destroyed meanwhile
        return None


Getter = Callable[[Any], Any]


def _unseen(get: Getter) -> Getter:
    """``get``, of which the tensor's class is not told. Sizes that are symbols are left out."""

    def unseen(tensor: Any) -> Any:
        with sys.modules["torch"]._C.DisableTorchFunctionSubclass():
            found = get(tensor)
        if type(found) is tuple and get is not identity:
            return tuple(one if type(one) is int else None for one in found)
        return found

    return unseen


GETTERS: dict[int, tuple[tuple[str, Getter], ...]] = {
    TENSOR: (
        ("kind", _kind),
        ("dtype", lambda tensor: text_of(tensor.dtype)),
        ("shape", lambda tensor: tuple(tensor.shape)),
        ("ndim", lambda tensor: tensor.dim()),
        ("requires_grad", lambda tensor: tensor.requires_grad),
        ("identity", identity),
    ),
    MODULE: (("kind", _kind), ("training", _training), ("identity", identity)),
    OTHER: (
        ("kind", _kind),
        ("ranks", _ranks),
        ("identity", identity),
        ("rows_due", rows_due),
        ("collate", collate),
    ),
}
"""By sort, its properties. One that gives None is not there."""
GETTERS[TAKES_OVER] = tuple((suffix, _unseen(get)) for suffix, get in GETTERS[TENSOR])
