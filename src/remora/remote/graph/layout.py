"""How a graph's outputs make up what a model returns, as data that can be sent."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from importlib import import_module
from typing import Any

import msgspec
import torch
from torch.utils import _pytree as pytree

from remora.core.errors import CannotCapture

Constant = None | bool | int | float | str


class Leaf(msgspec.Struct, frozen=True, array_like=True, tag="t"):
    """The next tensor."""


class Fixed(msgspec.Struct, frozen=True, array_like=True, tag="c"):
    """What is the same whatever the inputs."""

    value: Constant


class Items(msgspec.Struct, frozen=True, array_like=True, tag="i"):
    """A ``tuple`` or ``list``."""

    kind: str
    items: tuple[Layout, ...]


class Fields(msgspec.Struct, frozen=True, array_like=True, tag="f"):
    """A ``dict``, or an output of transformers by the name of its class."""

    kind: str
    names: tuple[str, ...]
    items: tuple[Layout, ...]


Layout = Leaf | Fixed | Items | Fields


def layout_of(spec: pytree.TreeSpec, outputs: Sequence[Any]) -> Layout:
    """That of a model whose graph gives ``outputs``, leaf by leaf.

    Raises:
        CannotCapture: something of a kind that cannot be sent is in it.
    """
    return _layout(spec, iter(outputs))


def whole(layout: Layout, tensors: Iterator[torch.Tensor]) -> Any:
    """What the model returns, made of ``tensors``.

    An output of transformers is a dict where transformers is not installed, or has none so called.
    """
    if isinstance(layout, Leaf):
        return next(tensors)
    if isinstance(layout, Fixed):
        return layout.value
    items = [whole(item, tensors) for item in layout.items]
    if isinstance(layout, Items):
        return tuple(items) if layout.kind == "tuple" else items
    fields = dict(zip(layout.names, items, strict=True))
    kind = _output_kind(layout.kind)
    return fields if kind is None else kind(**fields)


def _layout(spec: pytree.TreeSpec, leaves: Iterator[Any]) -> Layout:
    if spec.is_leaf():
        leaf = next(leaves)
        fixed = leaf is None or isinstance(leaf, bool | int | float | str)
        return Fixed(leaf) if fixed else Leaf()
    items = tuple(_layout(child, leaves) for child in spec.children())
    if spec.type in (tuple, list):
        return Items(spec.type.__name__, items)
    if spec.type is dict or _output_kind(spec.type.__name__) is spec.type:
        return Fields(spec.type.__name__, tuple(str(name) for name in spec.context), items)
    raise CannotCapture(
        f"the model returns a {spec.type.__name__}, which cannot be sent; have it return tensors, "
        "or tuples, lists and dicts of them"
    )


@lru_cache(maxsize=256)  # looked up at every call, and slow where transformers is not there
def _output_kind(name: str) -> Any:
    """The class of transformers for outputs that is called so; None where there is none."""
    try:
        generic: Any = import_module("transformers.utils.generic")
        outputs = import_module("transformers.modeling_outputs")
    except ImportError:
        return None
    kind = getattr(outputs, name, None)
    is_one = isinstance(kind, type) and issubclass(kind, generic.ModelOutput)
    return kind if is_one else None
