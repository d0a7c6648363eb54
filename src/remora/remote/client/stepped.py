"""Whether an optimizer has made a step with some tensors: a fused one leaves no other mark."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterable
from typing import Any

import torch
from torch.optim.optimizer import register_optimizer_step_post_hook

_guard = threading.RLock()
"""Taken again where what listened is collected while it is held."""
_listening: dict[int, weakref.ref[Stepped]] = {}
_hook: Any = None
"""In place while anybody listens."""


class Stepped:
    """Hears of the steps of every optimizer that has one of ``tensors``, as long as it is kept."""

    def __init__(self, tensors: Iterable[torch.Tensor]) -> None:
        self.has_happened = False
        self._tensors = frozenset(map(id, tensors))
        with _guard:
            _listening[id(self)] = weakref.ref(self)
            _listen()
        weakref.finalize(self, _leave, id(self)).atexit = False

    def hear(self, optimizer: torch.optim.Optimizer) -> None:
        """``optimizer`` has made a step."""
        if not self.has_happened:
            held = (id(one) for group in optimizer.param_groups for one in group["params"])
            self.has_happened = not self._tensors.isdisjoint(held)


def _listen() -> None:
    global _hook
    if _hook is None:
        _hook = register_optimizer_step_post_hook(_tell)


def _leave(who: int) -> None:
    """The hook goes with the last that listens."""
    global _hook
    with _guard:
        _listening.pop(who, None)
        if not _listening and _hook is not None:
            _hook.remove()
            _hook = None


def _tell(optimizer: torch.optim.Optimizer, *_: object) -> None:
    with _guard:
        listening = [one() for one in _listening.values()]
    for one in listening:
        if one is not None:
            one.hear(optimizer)
