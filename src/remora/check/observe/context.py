"""Where in a run a call is made: phase, gradient mode, autocast, rank."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import Any

START, TRAIN, EVAL = "start", "train", "eval"
PROPERTIES = frozenset({"phase", "grad", "autocast", "rank"})


class Context:
    """The job's context now. Contexts are few, so each is made once and shared."""

    def __init__(self) -> None:
        self.phase = START
        """Of the last root module whose forward began: its mode; ``start`` before the first."""
        self.step = 0
        self._rank = rank_of_process()
        self._known: dict[tuple[Any, ...], Mapping[str, Any]] = {}

    def enter(self, module: Any) -> None:
        """The forward of root ``module`` begins."""
        self.phase = TRAIN if module.training else EVAL

    def now(self) -> Mapping[str, Any]:
        torch = sys.modules["torch"]
        key = (self.phase, torch.is_grad_enabled(), _autocast(torch))
        context = self._known.get(key)
        if context is None:
            context = self._known[key] = {
                "phase": self.phase, "grad": key[1], "autocast": key[2], "rank": self._rank,
            }  # fmt: skip
        return context


def _autocast(torch: Any) -> str | None:
    """The dtype of the autocast that is on, on whichever device."""
    for device in ("cpu", "cuda"):
        if torch.is_autocast_enabled(device):
            return str(torch.get_autocast_dtype(device))
    return None


def rank_of_process() -> int:
    """As torch.distributed says it, or else torchrun; 0 in a job of one process."""
    distributed = sys.modules.get("torch.distributed")
    if distributed is not None and distributed.is_available() and distributed.is_initialized():
        return int(distributed.get_rank())
    text = os.environ.get("RANK", "0")
    return int(text) if text.isdigit() else 0
