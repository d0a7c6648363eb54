"""How many elements the parameters of an optimizer have."""

from __future__ import annotations

import weakref
from operator import itemgetter
from typing import Any

_parameters = itemgetter("params")


class Elements:
    """Counts them once, and again when parameters have been added."""

    def __init__(self) -> None:
        self._known: weakref.WeakKeyDictionary[Any, tuple[int, int]] = weakref.WeakKeyDictionary()

    def of(self, optimizer: Any) -> int:
        tensors = sum(map(len, map(_parameters, optimizer.param_groups)))
        known = self._known.get(optimizer)
        if known is None or known[0] != tensors:
            known = self._known[optimizer] = tensors, _counted(optimizer)
        return known[1]


def _counted(optimizer: Any) -> int:
    """A parameter that is lazy still counts nothing."""
    found = 0
    for group in optimizer.param_groups:
        for one in group["params"]:
            try:
                found += one.numel()
            except (RuntimeError, ValueError):
                continue
    return found
