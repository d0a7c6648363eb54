"""The step tap: where one optimizer step ends and the next begins.

Optimizer steps are seen through torch's own global optimizer hooks, registered while somebody is
subscribed and not otherwise, and of the two only those that somebody needs. A step counts when its
call has returned: one that raises does not, nor one that a GradScaler does not call. Where the
optimizer is fused, a GradScaler always calls it and its kernel skips the update; that one counts.

The job's step count is the largest count any single optimizer has reached, so a GAN, whose
discriminator and generator each step once an iteration, counts iterations. Where one optimizer
steps more often than another, the busiest one sets the count.
"""

from __future__ import annotations

import sys
import weakref
from collections import OrderedDict
from collections.abc import Callable
from threading import get_ident
from typing import TYPE_CHECKING, Any, NamedTuple

from remora.tap.forwards import Forward, RootForwards
from remora.tap.imports import ImportWatch
from remora.tap.subscription import Admit, Subscription, in_callback
from remora.tap.undisturbed import modes_are_on, undisturbed

if TYPE_CHECKING:
    from torch.optim import Optimizer

_OPTIMIZERS = "torch.optim.optimizer"


class Step(NamedTuple):
    """One step of one optimizer. Keeping it keeps the optimizer alive: keep what you need of it."""

    optimizer: Optimizer
    number: int
    """Which step of this optimizer, from 0; the same before and after."""
    total: int
    """The job's completed steps: without this one before it, with it after it."""
    advances: bool
    """Whether this optimizer is the first to get this far, so that the job's count moves."""
    args: tuple[Any, ...]
    """What ``step`` was called with, the optimizer first."""
    kwargs: dict[str, Any]


Callback = Callable[[Step], object]
_new = tuple.__new__
"""Makes a Step in a third of the time its own constructor takes."""


class Steps:
    """Subscribe to steps. ``job.steps`` is one of these."""

    def __init__(
        self, imports: ImportWatch, steps: OptimizerSteps, forwards: RootForwards, admit: Admit
    ) -> None:
        self._imports, self._steps, self._forwards, self._admit = imports, steps, forwards, admit

    @property
    def count(self) -> int:
        """Steps completed since the first subscription: the largest count of any optimizer."""
        return self._steps.total

    def subscribe(
        self, after: Callback | None = None, before: Callback | None = None
    ) -> Subscription:
        """Be called around every optimizer step, of every optimizer and thread.

        Steps taken while nobody is subscribed are not counted, nor those a callback takes. One
        that is under way at the subscription ends with an ``after`` alone. Inside
        ``torch.compile`` an optimizer's step has no hooks, so it is not seen.
        """
        return self._steps.subscribe(self._imports, self._admit, after, before)

    def subscribe_forward(
        self,
        after: Callable[[Forward], object] | None = None,
        before: Callable[[Forward], object] | None = None,
    ) -> Subscription:
        """Be called around every forward of a root module: what a step is to an inference job."""
        return self._forwards.subscribe(self._imports, self._admit, after, before)


class _Progress:
    """How far one optimizer has come. Holds the optimizer weakly."""

    __slots__ = ("alive", "may_nest", "steps")

    def __init__(self, alive: weakref.ref[Any], may_nest: bool) -> None:
        self.alive = alive
        self.may_nest = may_nest
        """Whether its step may call another that torch hooks as well: its parent class's."""
        self.steps = 0


class _Watcher(NamedTuple):
    callback: Callback
    subscription: Subscription


class OptimizerSteps:
    """The hooks themselves and the counts, shared by all who subscribe to one job."""

    def __init__(self) -> None:
        self.total = 0
        self._progress: dict[int, _Progress] = {}
        self._before: tuple[_Watcher, ...] = ()
        self._after: tuple[_Watcher, ...] = ()
        self._waiting: dict[Subscription, Callable[[], None]] = {}
        self._hooks: dict[str, tuple[OrderedDict[int, Any], int]] = {}

    def subscribe(
        self, imports: ImportWatch, admit: Admit, after: Callback | None, before: Callback | None
    ) -> Subscription:
        subscription = admit("in a step callback", self._remove)
        if not subscription.live:
            return subscription
        self._settle()
        if before is not None:
            self._before = (*self._before, _Watcher(before, subscription))
        if after is not None:
            self._after = (*self._after, _Watcher(after, subscription))
        if _OPTIMIZERS in sys.modules:
            self._register()
        else:
            self._waiting[subscription] = imports.when_imported(_OPTIMIZERS, self._register)
        return subscription

    def _remove(self, subscription: Subscription) -> None:
        self._before = tuple(one for one in self._before if one.subscription is not subscription)
        self._after = tuple(one for one in self._after if one.subscription is not subscription)
        self._waiting.pop(subscription, lambda: None)()
        self._settle()

    # ------------------------------------------------------------ torch's hooks

    def _register(self) -> None:
        from torch.optim import optimizer as torch_steps

        if self._before and "before" not in self._hooks:
            handle = torch_steps.register_optimizer_step_pre_hook(self._on_before)
            self._hooks["before"] = torch_steps._global_optimizer_pre_hooks, handle.id  # type: ignore[assignment]
        if (self._before or self._after) and "after" not in self._hooks:
            handle = torch_steps.register_optimizer_step_post_hook(self._on_after)
            self._hooks["after"] = torch_steps._global_optimizer_post_hooks, handle.id  # type: ignore[assignment]

    def _settle(self) -> None:
        """Remove the hooks that nobody needs.

        torch walks the very dictionary a hook lives in, so a hook that is running may be taken
        out only if it is the last: the walk is then already past every other. Elsewhere, while any
        thread is in a callback, it stays, doing nothing, until the next subscribe or remove.
        """
        needed = {"before": self._before, "after": self._after or self._before}
        for phase, (hooks, key) in list(self._hooks.items()):
            if needed[phase]:
                continue
            if not in_callback or next(reversed(hooks), None) == key:
                hooks.pop(key, None)
                del self._hooks[phase]

    # What follows is paid at every step of the program: it is written out rather than composed.

    def _on_before(self, optimizer: Optimizer, args: tuple[Any, ...], kwargs: Any) -> None:
        if (ident := get_ident()) in in_callback:
            return
        progress = self._progress.get(id(optimizer)) or self._meet(optimizer)
        if progress.may_nest and _within_step_of(optimizer):
            return
        number, total = progress.steps, self.total
        step = _new(Step, (optimizer, number, total, number >= total, args, kwargs))
        in_callback.add(ident)
        try:
            for callback, subscription in self._before:
                if subscription.live:
                    try:
                        if modes_are_on():
                            undisturbed(callback, step)
                        else:
                            callback(step)
                    except Exception as error:
                        subscription.fail(error)
        finally:
            in_callback.discard(ident)

    def _on_after(self, optimizer: Optimizer, args: tuple[Any, ...], kwargs: Any) -> None:
        if (ident := get_ident()) in in_callback:
            return
        progress = self._progress.get(id(optimizer)) or self._meet(optimizer)
        if progress.may_nest and _within_step_of(optimizer):
            return
        number, total = progress.steps, self.total
        progress.steps = number + 1
        if advances := number >= total:
            self.total = total = number + 1
        step = _new(Step, (optimizer, number, total, advances, args, kwargs))
        in_callback.add(ident)
        try:
            for callback, subscription in self._after:
                if subscription.live:
                    try:
                        if modes_are_on():
                            undisturbed(callback, step)
                        else:
                            callback(step)
                    except Exception as error:
                        subscription.fail(error)
        finally:
            in_callback.discard(ident)

    def _meet(self, optimizer: Optimizer) -> _Progress:
        key, of_tap = id(optimizer), weakref.ref(self)  # a cycle would outlive the job

        def forget(reference: weakref.ref[Any]) -> None:
            if (tap := of_tap()) is None:
                return
            if (found := tap._progress.get(key)) is not None and found.alive is reference:
                del tap._progress[key]

        self._progress[key] = met = _Progress(
            weakref.ref(optimizer, forget), _may_nest(type(optimizer))
        )
        return met


def _may_nest(cls: type) -> bool:
    """Whether more than one class of ``cls``'s line, torch's base excepted, has a ``step``."""
    from torch.optim import Optimizer

    return sum("step" in vars(base) for base in cls.__mro__ if base is not Optimizer) > 1


def _within_step_of(optimizer: Optimizer) -> bool:
    """Whether the hooked step that is calling us is nested in another of the same optimizer.

    So it is where a subclass's ``step`` calls its parent's. Read off the stack, so that a step
    that raised leaves nothing behind.
    """
    wrapper = sys._getframe(2)
    frame = wrapper.f_back
    while frame is not None:
        if frame.f_code is wrapper.f_code and frame.f_locals.get("self") is optimizer:
            return True
        frame = frame.f_back
    return False
