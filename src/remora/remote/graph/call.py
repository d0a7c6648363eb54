"""What a module is called with: tensors, which are sent, and all the rest, which is part of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch.utils import _pytree as pytree


class Flat(NamedTuple):
    """Arguments that are tensors and constants themselves, as most are."""

    positional: int
    names: tuple[str, ...]


@dataclass(frozen=True)
class Call:
    """Arguments of a module without their tensors: equal for calls that one graph can answer."""

    spec: Flat | pytree.TreeSpec
    """How the leaves make up the arguments."""
    constants: tuple[Any, ...]
    """The leaves, :data:`HERE` where a tensor goes."""
    kinds: tuple[type, ...]
    """Of the constants: 1 and True are equal, and a module may tell them apart."""

    @classmethod
    def of(cls, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[Call, list[torch.Tensor]]:
        """The call, and the tensors that were in it, in order."""
        leaves: list[Any] = [*args, *kwargs.values()]
        spec: Flat | pytree.TreeSpec = Flat(len(args), tuple(kwargs))
        if not all(type(leaf) in _PLAIN for leaf in leaves):
            leaves, spec = pytree.tree_flatten((tuple(args), dict(kwargs)))
        tensors = [leaf for leaf in leaves if isinstance(leaf, torch.Tensor)]
        constants = tuple([HERE if isinstance(leaf, torch.Tensor) else leaf for leaf in leaves])
        return cls(spec, constants, tuple([type(constant) for constant in constants])), tensors

    def made_of(self, tensors: Sequence[torch.Tensor]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """``args`` and ``kwargs`` again, with ``tensors`` in their places."""
        given = iter(tensors)
        leaves = [next(given) if leaf is HERE else leaf for leaf in self.constants]
        if isinstance(self.spec, Flat):
            args = tuple(leaves[: self.spec.positional])
            return args, dict(zip(self.spec.names, leaves[len(args) :], strict=True))
        args, kwargs = pytree.tree_unflatten(leaves, self.spec)
        return args, kwargs


_PLAIN = frozenset(
    (torch.Tensor, torch.nn.Parameter, type(None), bool, int, float, str, torch.dtype)
)
"""Types of leaves, looked up instead of asking how each is taken apart, which takes longer."""


class _Here:
    """Where a tensor goes."""

    def __repr__(self) -> str:
        return "<tensor>"


HERE = _Here()
