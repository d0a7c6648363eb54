"""Dicts of tensors as they were met, so that the next checkpoint need not look so closely again.

Modules and optimizers keep their tensors where they are from one checkpoint to the next; only the
values change. A dict whose every tensor lies where it lay, in the same shape, is written the same.
What is compared, is compared a list at a time: there may be thousands.
"""

from __future__ import annotations

import weakref
from collections.abc import Mapping, Sequence
from operator import is_
from typing import Any

import torch

from remora.checkpoint.state.stored import PLAIN, SAFETENSORS_NAMES, unsupported

_KEYS = frozenset({str, int})
"""Keys of which equal ones are the same. Not those of other types: ``True`` is 1."""


class KnownDict:
    """A dict of tensors, as a module's state is, or of dicts of tensors, as an optimizer's.

    Each tensor must be of a dtype that is stored as it is, and share memory with none outside;
    :func:`known_dict` sees to that. Tensors are not kept alive.

    Args:
        firsts: of the tensors in order, the indices of those that were given a name; the others
            are the same as one of them.
    """

    def __init__(
        self,
        value: Mapping[Any, Any],
        tensors: Sequence[torch.Tensor],
        firsts: Sequence[int],
        names: Sequence[str],
        json: Any,
    ) -> None:
        self.names, self.json = names, json
        self._keys, self._inner = tuple(value), _inner_keys(value)
        self._firsts = firsts if len(firsts) < len(tensors) else None
        self._seen = [weakref.ref(each) for each in tensors]
        self._kinds, self._places = _kinds(tensors), _places(tensors)
        self.places: dict[int, tuple[str, ...]] = {}
        for index, name in zip(firsts, names, strict=True):
            address = self._places[index][0]
            self.places[address] = (*self.places.get(address, ()), name)

    def again(self, value: Mapping[Any, Any]) -> list[torch.Tensor] | None:
        """Those tensors of ``value`` that have names, in order; None unless it is what was met."""
        if tuple(value) != self._keys or not _has_plain_keys(value):
            return None
        inner = _inner_keys(value)
        if inner != self._inner:
            return None
        tensors = _leaves(value, inner)
        if not all(map(is_, tensors, [one() for one in self._seen])) and (
            not all(type(each) in PLAIN for each in tensors) or _kinds(tensors) != self._kinds
        ):
            return None
        if _places(tensors) != self._places:
            return None
        return tensors if self._firsts is None else [tensors[index] for index in self._firsts]


def known_dict(
    value: Mapping[Any, Any], named: Mapping[str, torch.Tensor], json: Any
) -> KnownDict | None:
    """``value``, whose tensors are those in ``named``, and which was written as ``json``.

    None where it has to be looked at closely each time.
    """
    inner = _inner_keys(value)
    tensors = _leaves(value, inner)
    if not _has_plain_keys(value) or not all(map(_is_simple, tensors)):
        return None
    if any(type(key) is not str for keys in inner or () for key in keys):
        return None
    firsts = {place: index for index, place in reversed([*enumerate(_places(tensors))])}
    of_names = [firsts.pop(place, -1) for place in _places([*named.values()])]
    if firsts or -1 in of_names:
        return None
    return KnownDict(value, tensors, of_names, tuple(named), json)


def _inner_keys(value: Mapping[Any, Any]) -> list[tuple[Any, ...]] | None:
    """Of each dict in it; None where there is something else."""
    if not all(type(each) is dict for each in value.values()):
        return None
    return [tuple(each) for each in value.values()]


def _has_plain_keys(value: Mapping[Any, Any]) -> bool:
    return all(type(key) in _KEYS for key in value)


def _leaves(value: Mapping[Any, Any], inner: list[tuple[Any, ...]] | None) -> list[Any]:
    """What is in it, or in the dicts in it; ``inner`` is their keys."""
    if inner is None:
        return list(value.values())
    return [tensor for each in value.values() for tensor in each.values()]


def _places(tensors: Sequence[torch.Tensor]) -> list[tuple[Any, ...]]:
    """What can change of one and the same tensor."""
    return [(each.data_ptr(), each.shape, each.stride()) for each in tensors]


def _kinds(tensors: Sequence[torch.Tensor]) -> list[tuple[Any, ...]]:
    return [
        (each.dtype, each.layout, each.get_device(), each.is_neg(), each.requires_grad)
        for each in tensors
    ]


def _is_simple(value: Any) -> bool:
    """Whether it is a tensor that is stored as it is, and has elements."""
    return (
        type(value) in PLAIN
        and unsupported(value) is None
        and value.dtype in SAFETENSORS_NAMES
        and not value.requires_grad
        and not value.is_neg()
        and value.data_ptr() != 0
    )
