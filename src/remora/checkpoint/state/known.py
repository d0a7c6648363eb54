"""Dicts of tensors as they were met, so that the next checkpoint need not look so closely again.

Modules and optimizers keep their tensors where they are from one checkpoint to the next; only the
values change. A dict whose every tensor lies where it lay, in the same shape, is written the same.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Mapping
from typing import Any

import torch

from remora.checkpoint.state.stored import SAFETENSORS_NAMES, unsupported

_PLAIN = frozenset({torch.Tensor, torch.nn.Parameter})


class KnownDict:
    """One of them: its keys, how each tensor lay, the name each was given, and the JSON of it all.

    ``value`` must be of tensors alone, each in its own memory and in a dtype that is stored as it
    is; :func:`is_simple` tells. Tensors are not kept alive.
    """

    __slots__ = ("_keys", "_seen", "json", "names", "places")

    def __init__(self, value: Mapping[Any, torch.Tensor], names: Iterable[str], json: Any) -> None:
        self._keys, self.names, self.json = tuple(value), tuple(names), json
        self._seen = [_Seen(each) for each in value.values()]
        self.places = {
            each.at[0]: (name,) for each, name in zip(self._seen, self.names, strict=True)
        }

    def is_still(self, value: Mapping[Any, Any]) -> bool:
        """Whether ``value`` has the same keys, and under each the tensor that lay there."""
        if tuple(value) != self._keys:
            return False
        for tensor, seen in zip(value.values(), self._seen, strict=True):
            if seen.one() is not tensor and not seen.is_like(tensor):
                return False
            if (tensor.data_ptr(), tensor.shape, tensor.stride()) != seen.at:
                return False
        return True


class _Seen:
    """A tensor as it was met."""

    __slots__ = ("at", "device", "dtype", "one")

    def __init__(self, tensor: torch.Tensor) -> None:
        self.one = weakref.ref(tensor)
        self.at = tensor.data_ptr(), tensor.shape, tensor.stride()
        self.dtype, self.device = tensor.dtype, tensor.device

    def is_like(self, tensor: Any) -> bool:
        """Whether another one would be stored in the same way, as far as its kind goes."""
        return (
            type(tensor) in _PLAIN
            and tensor.dtype is self.dtype
            and tensor.layout is torch.strided
            and tensor.device == self.device
            and not tensor.is_neg()
            and not tensor.requires_grad
        )


def is_simple(value: Mapping[Any, Any]) -> bool:
    """Whether all in it are tensors that are stored as they are, with elements."""
    return all(
        type(each) in _PLAIN
        and unsupported(each) is None
        and each.dtype in SAFETENSORS_NAMES
        and not each.requires_grad
        and not each.is_neg()
        and each.data_ptr()
        for each in value.values()
    )
