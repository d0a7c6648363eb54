"""Where a script may be stopped and gone on from: the points between its iterations.

Let *k* be the job's completed steps. What the script does after an optimizer's step and before its
next forward (a scheduler's step, an average of the weights, clipping them) belongs to the step. So

    P(k) is the moment before the first root forward that the script makes after the *k*-th step,
    and after every optimizer of the iteration has stepped;
    where it makes none, the moment before the next optimizer's step, or the end of the program.

A forward is the script's if it is called from outside any other module's forward, in the main
thread, not from within a data loader (transforms are modules too) and not in backward (activation
checkpointing). At P(k) no graph is half built, gradients are as the script left them, and the batch
of the next step may be fetched already: replay fetches it as well, so only random numbers and
values need to be put back, at the same line of the script at which they were captured.

An iteration has several optimizers' steps in a GAN, and a graph built before the first of them may
be used after it. It is over when every optimizer that has stepped lately has stepped since it
began; it begins with the step of the optimizer that was first of all. So P(k) lies behind the
generator's step, not between it and the discriminator's.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

from remora.checkpoint.ride.where import is_scripts
from remora.tap.job import Job

LATELY = 256
"""An optimizer that has not stepped for so many steps of any is no part of the iteration."""


class Iterations:
    """Tells where iterations end, from the order in which optimizers step."""

    def __init__(self) -> None:
        self.calls = 0
        """Steps of all optimizers together."""
        self._last: dict[int, int] = {}
        self._steps: dict[int, int] = {}
        self._since: set[int] = set()

    def stepped(self, optimizer: int) -> None:
        """The optimizer of that id has stepped."""
        self.calls += 1
        self._last[optimizer] = self.calls
        self._steps[optimizer] = self._steps.get(optimizer, 0) + 1
        active = self._active()
        if optimizer == active[0] and self._since != {optimizer} and self._since >= set(active):
            self._since = set()
        self._since.add(optimizer)

    def over(self, alone: bool) -> bool:
        """Whether the iteration is over. ``alone``: there is but one optimizer in the program.

        Before the first optimizer has stepped twice, nobody knows whether another belongs to it.
        """
        active = self._active()
        if not active or not (alone or self._steps[active[0]] > 1):
            return False
        return self._since >= set(active)

    def _active(self) -> list[int]:
        """The optimizers that have stepped lately, in the order of their first steps."""
        stale = [each for each, at in self._last.items() if self.calls - at >= LATELY]
        for each in stale:
            del self._last[each]
        return list(self._last)


class NextForward:
    """Calls back before the script's next root forward, once for each time it is armed.

    A hook on all modules, there only while armed: in a training loop from a step's end to the next
    forward, so the program pays for one call of it a step.
    """

    def __init__(self, job: Job, then: Callable[[FrameType], None]) -> None:
        self._then = then
        self._hook: Any = None
        compiled = "torch._dynamo.eval_frame.OptimizedModule.__call__"
        job.calls.watch(compiled, before=self._on_compiled)

    def arm(self) -> None:
        if self._hook is None:
            from torch.nn.modules.module import register_module_forward_pre_hook

            self._hook = register_module_forward_pre_hook(self._on_forward)

    @property
    def armed(self) -> bool:
        return self._hook is not None

    def disarm(self) -> None:
        if self._hook is not None:
            self._hook.remove()
            self._hook = None

    def _on_forward(self, module: Any, args: Any) -> None:
        frame = _caller_of_module(sys._getframe(1))
        if self._hook is not None and is_root_call(frame):
            self._fire(frame)

    def _on_compiled(self, args: Any, kwargs: Any) -> None:
        """Before torch looks: a compiled module warns where a hook on all modules is on."""
        frame = sys._getframe(1).f_back
        if self._hook is not None and is_root_call(frame):
            self._fire(frame)

    def _fire(self, frame: FrameType | None) -> None:
        self.disarm()
        if frame is not None:
            self._then(frame)


def is_root_call(frame: FrameType | None) -> bool:
    """Whether a module called by ``frame`` is called by the script, for a forward."""
    import torch

    if threading.get_ident() != threading.main_thread().ident:
        return False
    if torch.compiler.is_compiling() or torch._C._current_graph_task_id() != -1:
        return False
    return is_scripts(frame)


def _caller_of_module(frame: FrameType | None) -> FrameType | None:
    """Out of torch's own functions around a forward, to whoever called the module."""
    from torch.nn import Module

    code = Module._wrapped_call_impl.__code__
    while frame is not None and frame.f_code is not code:
        frame = frame.f_back
    return frame.f_back if frame is not None else None
