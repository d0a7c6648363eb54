"""Where in a run a call is made: phase, warm-up, gradient mode, autocast, rank, context managers.

A job is *warming up* until at least :data:`WARM_UP_STEPS` steps are over and the last of them was
made with no higher learning rate than the one before it: state of optimizers comes into being in
the first step, lazy modules are made real, the first steps under a GradScaler may be skipped, and
learning rates rise. Once it is over it does not come again.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from typing import Any

from remora.check.calls import Known
from remora.check.observe.readings import plain

START, TRAIN, EVAL = "start", "train", "eval"
WARM_UP = "warm_up"
WARM_UP_STEPS = 3
MANAGERS = (
    "context.torch.inference_mode",
    "context.torch.autograd.detect_anomaly",
    "context.torch.profiler.profile",
)
"""Context managers that a call may lie in. What is read is the state that they set: it counts too
where a program sets it by a function, and nobody has to watch them come and go. Of no_grad
``grad`` tells, of autocast ``autocast``."""
PROPERTIES = frozenset({"phase", WARM_UP, "grad", "autocast", "rank", *MANAGERS})


class Context:
    """The job's context now. Contexts are few, so each is made once and shared."""

    def __init__(self) -> None:
        self.phase = START
        """Of the last root module whose forward began: its mode; ``start`` before the first."""
        self.step = 0
        self.warm_up = True
        self._rate: float | None = None
        self._rank = rank_of_process()
        self._known: dict[tuple[Any, ...], Known] = {}

    def enter(self, module: Any) -> None:
        """The forward of root ``module`` begins."""
        self.phase = TRAIN if module.training else EVAL

    def step_ended(self, steps: int, optimizer: Any) -> None:
        """So many steps of the job are over, the last one by ``optimizer``."""
        self.step = steps
        if self.warm_up:
            before, self._rate = self._rate, _highest_rate(optimizer)
            rises = before is not None and self._rate is not None and self._rate > before
            self.warm_up = steps < WARM_UP_STEPS or rises

    def asking(self, wanted: frozenset[str]) -> Callable[[], Mapping[str, Any]] | None:
        """What tells the context now, as far as ``wanted``: to ask for all of it costs more."""
        if wanted == frozenset({"autocast"}):
            return self._asking_autocast()
        return self.now if wanted else None

    def _asking_autocast(self) -> Callable[[], Mapping[str, Any]]:
        known: dict[str | None, Known] = {None: Known({"autocast": None})}
        off = known[None]
        core = sys.modules["torch"]._C  # whoever watches functions of torch has it
        is_on = getattr(core, "_is_any_autocast_enabled", lambda: True)

        def now() -> Mapping[str, Any]:
            if not is_on():
                return off
            found = _autocast(sys.modules["torch"])
            return known.setdefault(found, Known({"autocast": found}))

        return now

    def now(self) -> Mapping[str, Any]:
        torch = sys.modules["torch"]
        within = (
            torch.is_inference_mode_enabled(), torch.is_anomaly_enabled(),
            torch.autograd._profiler_enabled(),
        )  # fmt: skip
        key = (self.phase, torch.is_grad_enabled(), _autocast(torch), self.warm_up, within)
        context = self._known.get(key)
        if context is None:
            context = self._known[key] = Known(
                {
                    "phase": self.phase, WARM_UP: self.warm_up, "grad": key[1], "autocast": key[2],
                    "rank": self._rank,
                    **{name: True for name, is_on in zip(MANAGERS, within, strict=True) if is_on},
                }
            )  # fmt: skip
        return context


def _autocast(torch: Any) -> str | None:
    """The dtype of the autocast that is on, on whichever device."""
    any_is_on = getattr(torch._C, "_is_any_autocast_enabled", None)  # asking it is the cheapest
    if any_is_on is not None and not any_is_on():
        return None
    for device in ("cpu", "cuda"):
        if torch.is_autocast_enabled(device):
            return str(torch.get_autocast_dtype(device))
    return None


def _highest_rate(optimizer: Any) -> float | None:
    """Of its groups; None where it would have to be fetched from a device."""
    rates = [plain(group.get("lr", 0.0)) for group in optimizer.param_groups]
    return max(rates, default=0.0) if all(type(one) in (int, float) for one in rates) else None


def rank_of_process() -> int:
    """As torch.distributed says it, or else torchrun; 0 in a job of one process."""
    distributed = sys.modules.get("torch.distributed")
    if distributed is not None and distributed.is_available() and distributed.is_initialized():
        return int(distributed.get_rank())
    text = os.environ.get("RANK", "0")
    return int(text) if text.isdigit() else 0
