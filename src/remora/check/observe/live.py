"""Watch a running job's calls and hand them to a sink."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from threading import get_ident
from typing import Any

from remora.check.calls import CLOSURE, MODEL_FORWARD, NOTHING, OPTIMIZER_STEP, Call, Known
from remora.check.observation import Observation
from remora.check.observe.around import Around, Unsettled, settled
from remora.check.observe.context import PROPERTIES, Context
from remora.check.observe.reading import Inputs, Outputs
from remora.check.observe.sampling import EVERYTHING, AroundSampled, Sampling, Watching
from remora.check.observe.subjects import subject_of
from remora.check.observe.variables import Variables
from remora.check.sink import Handler, Sink, Wanted
from remora.core.errors import UserError
from remora.tap.forwards import Forward
from remora.tap.job import Job
from remora.tap.names import Place, find
from remora.tap.steps import Step

SEEN_BY_HOOKS = frozenset({OPTIMIZER_STEP, MODEL_FORWARD})
"""Functions that stand for the same method of every class; torch's hooks tell of them."""


class LiveCalls:
    """Follows each thread's stack of watched calls.

    Args:
        every: watch one step in so many (:mod:`remora.check.observe.sampling`).
    """

    def __init__(self, job: Job, sink: Sink, *, every: int = 1) -> None:
        self._job, self._sink = job, sink
        self._sampling = Sampling(every, remembers=sink.remembers)
        self.watching = EVERYTHING
        """Of the step that is under way."""
        self.context = Context()
        self.unknown: dict[str, str] = {}
        """Functions that cannot be watched, and why."""
        self.innermost: dict[int, Call | None] = {}
        """By thread, the watched call that is under way and in which no other is."""
        self._order = itertools.count()
        self.variables = Variables(job)
        self._compared = sink.compared()
        self._comparisons = 0
        self._sees_variables = bool(self._compared)
        self._unsettled: list[tuple[Call, list[Observation | Unsettled]]] = []

    def find(self, names: Iterable[str]) -> None:
        """Keep those of ``names`` that are no function to watch in :attr:`unknown`."""
        for name in names:
            if name not in SEEN_BY_HOOKS:
                try:
                    find(name)
                except UserError as error:
                    self.unknown[name] = str(error)

    def watch(self, names: Iterable[str]) -> None:
        """Watch functions ``names``; those that do not exist are kept in :attr:`unknown`."""
        with self._job.calls.together():
            for name in names:
                if name not in SEEN_BY_HOOKS:
                    self._watch_one(name)

    def follow_steps(self, *, forwards: bool) -> None:
        """Watch optimizers' steps and, with ``forwards``, root modules' forwards."""
        if forwards:
            forward = self._followed(MODEL_FORWARD, None)
            self._job.steps.subscribe_forward(
                before=lambda one: self._before_forward(forward, one),
                after=lambda one: forward.leave_for(one.module, one.output),
            )
        step = self._followed(OPTIMIZER_STEP, None)
        self._job.steps.subscribe(
            before=lambda one: self._before_step(step, one),
            after=lambda one: self._after_step(step, one),
        )

    def _followed(self, name: str, function: Any) -> _Followed:
        return (_Followed if self._sampling.every == 1 else _Sampled)(self, name, function)

    def _watch_one(self, name: str) -> None:
        try:
            followed = self._followed(name, _function(name))
            self._job.calls.watch(
                name, before=followed.enter, after=followed.leave, failed=followed.fell
            )
        except UserError as error:
            self.unknown[name] = str(error)

    def _before_forward(self, followed: _Followed, forward: Forward) -> None:
        self.context.enter(forward.module)
        if not self.watching.calls:
            return
        if self._sees_variables:
            self.variables.ran(forward.module)
        followed.enter_for(forward.module, _mode(forward.module.training))

    def _before_step(self, followed: _Followed, step: Step) -> None:
        if self.watching.calls:
            followed.enter_for(step.optimizer, _of_optimizer(step))

    def _after_step(self, followed: _Followed, step: Step) -> None:
        followed.leave_for(step.optimizer, None)
        if not step.advances:
            return
        if self.watching.calls:
            self._settle()
            self._sink.step_ended(self.context.step)
        self.context.step = step.total
        if self._sampling.every > 1:
            self._turn_to(self._sampling.of(step.total))

    def _turn_to(self, watching: Watching) -> None:
        """A step begins of which this is watched. What is under way has not been seen whole."""
        before, self.watching = self.watching, watching
        if before.calls and not watching.calls:
            self._job.calls.sleep()
            self._abandon()
        elif watching.calls and not before.calls:
            self._abandon()
            self._sink.missed()
            self._job.calls.wake()

    def _abandon(self) -> None:
        """The calls that are open count as failed: nothing can be said of what they lack."""
        open_now = list(self.innermost.values())
        self.innermost.clear()
        for call in open_now:
            while call is not None:
                call.failed = True
                call = call.parent

    # ------------------------------------------------------------ variables

    def around(self, function: str) -> Around | None:
        """What looks at variables around ``function``; None if nobody wants to know."""
        looks = self._sink.looks(function)
        if not looks:
            return None
        self._sees_variables = True
        if self._sampling.every > 1:
            return AroundSampled(self.variables, looks, self)
        return Around(self.variables, looks)

    def observed(self, call: Call, seen: list[Observation | Unsettled]) -> None:
        if Unsettled in map(type, seen):
            self._unsettled.append((call, seen))
        elif seen:
            self._sink.changed(call, seen)  # type: ignore[arg-type]

    def _settle(self) -> None:
        """The step ends: fetch what is on devices, once, and compare contents if asked to."""
        if self._unsettled:
            waiting, self._unsettled = self._unsettled, []
            whole = iter(settled([one for _, seen in waiting for one in seen]))
            for call, seen in waiting:
                self._sink.changed(call, [next(whole) for _ in seen])
        if self._compared and self.watching.variables:
            self.variables.meet(None)
            contents = self.variables.contents(self._compared, self._comparisons)
            self._comparisons += 1
            self._sink.compare(self.context.step, contents)
        if self._sees_variables:
            self.variables.step_ended()

    # ------------------------------------------------------------ the stack

    def beginning(
        self, function: str, now: Callable[[], Mapping[str, Any]], handlers: tuple[Handler, ...]
    ) -> Callable[[Mapping[str, Any]], Call]:
        """What begins a call of ``function``: it goes on its thread's stack, and is told of."""
        innermost, order, context = self.innermost, self._order.__next__, self.context

        def begin(inputs: Mapping[str, Any]) -> Call:
            thread = get_ident()
            call = Call(
                function, order(), thread, innermost.get(thread), context.step, inputs, now()
            )
            innermost[thread] = call
            for handle in handlers:
                handle(call)
            return call

        return begin

    def end(self, call: Call) -> None:
        self.innermost[call.thread] = call.parent


class _Followed:
    """One watched function. What is paid at every call is put together once, in closures."""

    def __init__(self, live: LiveCalls, name: str, function: Any) -> None:
        wanted: Wanted = live._sink.wanted(name)
        self._live = live
        everything = "*" in wanted.inputs
        self._inputs = Inputs(function, wanted.inputs - PROPERTIES)
        now = live.context.now if everything or wanted.inputs & PROPERTIES else _nothing
        begin, end = live._sink.handlers(name)
        self._around = live.around(name)
        self._open: dict[int, Call] = {}
        self._begin, self._end = live.beginning(name, now, begin), end
        self.enter = self._entering(name)
        self.leave = self._leaving(Outputs(wanted.outputs))

    def _entering(self, name: str) -> Callable[[tuple[Any, ...], dict[str, Any]], Call]:
        begin, around = self._begin, self._around
        read = self._inputs.read

        def enter(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call:
            return begin(read(args, kwargs))

        def enter_around(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call:
            call = begin(read(args, kwargs))
            around.begin(call, subject_of(name, args, kwargs))  # type: ignore[union-attr]
            return call

        return enter if around is None else enter_around

    def _leaving(self, outputs: Outputs) -> Callable[[Call, Any], None]:
        live, around, handlers, read = self._live, self._around, self._end, outputs.read
        innermost = live.innermost

        def leave(call: Call, result: Any) -> None:
            innermost[call.thread] = call.parent
            call.outputs = read(result)
            for handle in handlers:
                handle(call)

        def leave_around(call: Call, result: Any) -> None:
            seen = around.end(call)  # type: ignore[union-attr]
            leave(call, result)
            if seen:
                live.observed(call, seen)

        return leave if around is None else leave_around

    def enter_for(self, thing: object, inputs: Mapping[str, Any]) -> None:
        """For hooks, which hand no token from the begin to the end: ``thing`` stands for one.

        A call of it that is open still has raised, which hooks do not tell.
        """
        if (dead := self._open.pop(id(thing), None)) is not None:
            self._live.end(dead)
        call = self._open[id(thing)] = self._begin(inputs)
        if self._around is not None:
            self._around.begin(call, thing)

    def leave_for(self, thing: object, result: Any) -> None:
        if (call := self._open.pop(id(thing), None)) is not None:
            self.leave(call, result)

    def fell(self, call: Call, error: BaseException) -> None:
        self._live.end(call)
        call.failed = True
        for handle in self._end:
            handle(call)


class _Sampled(_Followed):
    """One watched function, where some steps are not watched.

    A call that was under way at a change over was not seen whole: it began in a step that is not
    watched and has no token, or was abandoned and counts as failed.
    """

    def _leaving(self, outputs: Outputs) -> Callable[[Call, Any], None]:
        leave = super()._leaving(outputs)

        def leave_whole(call: Call | None, result: Any) -> None:
            if call is not None and not call.failed:
                leave(call, result)

        return leave_whole

    def fell(self, call: Call | None, error: BaseException) -> None:
        if call is not None and not call.failed:
            super().fell(call, error)


def _nothing() -> Mapping[str, Any]:
    return NOTHING


def _function(name: str) -> Any:
    """The function behind ``name``, if it is there already."""
    found = find(name)
    if not isinstance(found, Place):
        return None
    raw = found.raw
    return raw.__func__ if isinstance(raw, staticmethod | classmethod) else raw


@lru_cache(maxsize=64)
def _mode(training: bool) -> Known:
    return Known({"self.training": training})


def _of_optimizer(step: Step) -> Known:
    given = step.args[1] if len(step.args) > 1 else step.kwargs.get("closure")
    return _kind(type(step.optimizer).__name__, type(given).__name__ if callable(given) else None)


@lru_cache(maxsize=64)
def _kind(name: str, closure: str | None) -> Known:
    return Known({"self.kind": name} | ({CLOSURE: closure} if closure is not None else {}))
