"""What a module is called with: tensors, which are sent, and all the rest, which is part of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils import _pytree as pytree


@dataclass(frozen=True)
class Call:
    """Arguments of a module without their tensors: equal for calls that one graph can answer."""

    spec: pytree.TreeSpec
    constants: tuple[Any, ...]
    """The leaves, :data:`HERE` where a tensor goes."""

    @classmethod
    def of(cls, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[Call, list[torch.Tensor]]:
        """The call, and the tensors that were in it, in order."""
        leaves, spec = pytree.tree_flatten((tuple(args), dict(kwargs)))
        tensors = [leaf for leaf in leaves if isinstance(leaf, torch.Tensor)]
        constants = tuple(HERE if isinstance(leaf, torch.Tensor) else leaf for leaf in leaves)
        return cls(spec, constants), tensors

    def made_of(self, tensors: Sequence[torch.Tensor]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """``args`` and ``kwargs`` again, with ``tensors`` in their places."""
        given = iter(tensors)
        leaves = [next(given) if leaf is HERE else leaf for leaf in self.constants]
        args, kwargs = pytree.tree_unflatten(leaves, self.spec)
        return args, kwargs


class _Here:
    """Where a tensor goes."""

    def __repr__(self) -> str:
        return "<tensor>"


HERE = _Here()
