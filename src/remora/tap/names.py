"""Find what a dotted name stands for, without importing anything."""

from __future__ import annotations

import difflib
import importlib.util
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from types import (
    BuiltinFunctionType,
    ClassMethodDescriptorType,
    FunctionType,
    MethodDescriptorType,
    MethodType,
    ModuleType,
    WrapperDescriptorType,
)
from typing import Any

from remora.core.errors import BadValue, UnknownName
from remora.tap.shapes import BuiltIn

_INTERCEPTABLE = (
    FunctionType,
    BuiltinFunctionType,
    MethodDescriptorType,
    WrapperDescriptorType,
    ClassMethodDescriptorType,
    MethodType,
    staticmethod,
    classmethod,
    BuiltIn,
)


@dataclass(frozen=True)
class Place:
    """An attribute to intercept."""

    name: str
    owner: Any
    """A module or a class."""
    attribute: str
    raw: Any
    """What is stored there, or in the base class it is inherited from: a descriptor unbound."""


def find(name: str) -> Place | str:
    """The place ``name`` stands for, or the module that has to be imported first.

    Raises:
        UnknownName: nothing of that name is there or can be imported.
        BadValue: it is there and cannot be intercepted.
    """
    parts = name.split(".")
    if len(parts) < 2 or not all(part.isidentifier() for part in parts):
        raise BadValue(
            f"{name!r} is not the full name of a function; write the module too: "
            "'torch.nn.functional.dropout'"
        )
    length = _imported_length(parts)
    if length == 0:
        if not _importable(parts[0]):
            raise UnknownName("module", parts[0], _close(parts[0], _top_level_modules()))
        return parts[0]
    owner: Any = sys.modules[".".join(parts[:length])]
    for position in range(length, len(parts) - 1):
        child = _member(owner, parts[position])
        if child is None:
            return _awaited(owner, parts[: position + 1])
        owner = child
    if _member(owner, parts[-1]) is None:
        return _awaited(owner, parts)
    return _place(name, owner, parts[-1])


def _imported_length(parts: list[str]) -> int:
    """How many leading parts name the deepest module already imported."""
    for length in range(len(parts) - 1, 0, -1):
        if ".".join(parts[:length]) in sys.modules:
            return length
    return 0


def _importable(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False


def _member(owner: Any, attribute: str) -> Any:
    return getattr(owner, attribute, None)


def _awaited(owner: Any, parts: list[str]) -> str:
    """The module to wait for so that the last of ``parts`` may appear in ``owner``."""
    if issubclass(type(owner), ModuleType):
        if owner.__name__ == "__main__":
            return "__main__"
        full = ".".join(parts)
        if hasattr(owner, "__path__") and _importable(full):
            return full
    kind = "function" if issubclass(type(owner), ModuleType) else "attribute"
    where = getattr(owner, "__qualname__", getattr(owner, "__name__", ""))
    valid = [f"{'.'.join(parts[:-1])}.{near}" for near in _close(parts[-1], dir(owner))]
    raise UnknownName(f"{kind} of {where}", ".".join(parts), valid)


def _place(name: str, owner: Any, attribute: str) -> Place:
    if isinstance(owner, type):
        held_by = (base for base in owner.__mro__ if attribute in vars(base))
        raw = next((vars(base)[attribute] for base in held_by), getattr(owner, attribute))
    elif issubclass(type(owner), ModuleType):
        raw = getattr(owner, attribute)
    else:
        raise BadValue(f"{name!r} is in a {type(owner).__name__}; name a module or class instead")
    if isinstance(raw, type):
        raise BadValue(f"{name!r} is a class; watch '{name}.__init__' or one of its methods")
    if isinstance(raw, property):
        raise BadValue(f"{name!r} is a property, which is not called; watch a function or method")
    if not isinstance(raw, _INTERCEPTABLE):
        raise BadValue(
            f"{name!r} is a {type(raw).__name__}; only functions and methods can be watched"
        )
    return Place(name, owner, attribute, raw)


def _top_level_modules() -> Iterable[str]:
    return {module.partition(".")[0] for module in sys.modules} | set(sys.stdlib_module_names)


def _close(name: str, valid: Iterable[str]) -> list[str]:
    """The five most alike: the whole list would fill the screen."""
    public = [one for one in valid if not one.startswith("_") or name.startswith("_")]
    return difflib.get_close_matches(name, public, n=5, cutoff=0.0)
