"""Watch a running job's calls and hand them to a sink."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping
from threading import get_ident
from typing import Any

from remora.check.calls import CLOSURE, MODEL_FORWARD, NOTHING, OPTIMIZER_STEP, Call
from remora.check.observation import Observation
from remora.check.observe.around import Around, Unsettled, settled
from remora.check.observe.context import PROPERTIES, Context
from remora.check.observe.reading import Inputs, Outputs
from remora.check.observe.subjects import subject_of
from remora.check.observe.variables import Variables
from remora.check.sink import Sink, Wanted
from remora.core.errors import UserError
from remora.tap.forwards import Forward
from remora.tap.job import Job
from remora.tap.names import Place, find
from remora.tap.steps import Step

SEEN_BY_HOOKS = frozenset({OPTIMIZER_STEP, MODEL_FORWARD})
"""Functions that stand for the same method of every class; torch's hooks tell of them."""


class LiveCalls:
    """Follows each thread's stack of watched calls."""

    def __init__(self, job: Job, sink: Sink) -> None:
        self._job, self._sink = job, sink
        self.context = Context()
        self.unknown: dict[str, str] = {}
        """Functions that cannot be watched, and why."""
        self._innermost: dict[int, Call | None] = {}
        self._order = itertools.count()
        self.variables = Variables(job)
        self._compared = sink.compared()
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
            forward = _Followed(self, MODEL_FORWARD, None)
            self._job.steps.subscribe_forward(
                before=lambda one: self._before_forward(forward, one),
                after=lambda one: forward.leave_for(one.module, one.output),
            )
        step = _Followed(self, OPTIMIZER_STEP, None)
        self._job.steps.subscribe(
            before=lambda one: step.enter_for(one.optimizer, _of_optimizer(one)),
            after=lambda one: self._after_step(step, one),
        )

    def _watch_one(self, name: str) -> None:
        try:
            followed = _Followed(self, name, _function(name))
            self._job.calls.watch(
                name, before=followed.enter, after=followed.leave, failed=followed.fell
            )
        except UserError as error:
            self.unknown[name] = str(error)

    def _before_forward(self, followed: _Followed, forward: Forward) -> None:
        self.context.enter(forward.module)
        if self._sees_variables:
            self.variables.ran(forward.module)
        followed.enter_for(forward.module, {"self.training": forward.module.training})

    def _after_step(self, followed: _Followed, step: Step) -> None:
        followed.leave_for(step.optimizer, None)
        if step.advances:
            self._settle()
            self._sink.step_ended(self.context.step)
            self.context.step = step.total

    # ------------------------------------------------------------ variables

    def around(self, function: str) -> Around | None:
        """What looks at variables around ``function``; None if nobody wants to know."""
        looks = self._sink.looks(function)
        if looks:
            self._sees_variables = True
        return Around(self.variables, looks) if looks else None

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
        if self._compared:
            self.variables.meet(None)
            contents = self.variables.contents(self._compared, self.context.step)
            self._sink.compare(self.context.step, contents)
        if self._sees_variables:
            self.variables.step_ended()

    # ------------------------------------------------------------ the stack

    def begin(self, function: str, inputs: Mapping[str, Any], context: Mapping[str, Any]) -> Call:
        thread = get_ident()
        innermost = self._innermost
        call = Call(
            function, next(self._order), thread, innermost.get(thread), self.context.step,
            inputs, context,
        )  # fmt: skip
        innermost[thread] = call
        return call

    def end(self, call: Call) -> None:
        self._innermost[call.thread] = call.parent


class _Followed:
    """One watched function."""

    def __init__(self, live: LiveCalls, name: str, function: Any) -> None:
        wanted: Wanted = live._sink.wanted(name)
        self._live, self._name = live, name
        everything = "*" in wanted.inputs
        self._inputs = Inputs(function, wanted.inputs - PROPERTIES)
        self._outputs = Outputs(wanted.outputs)
        self._now: Callable[[], Mapping[str, Any]] = (
            live.context.now if everything or wanted.inputs & PROPERTIES else _nothing
        )
        self._begin, self._end = live._sink.handlers(name)
        self._around = live.around(name)
        self._open: dict[int, Call] = {}

    def enter(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call:
        call = self.enter_properties(self._inputs.read(args, kwargs))
        if self._around is not None:
            self._around.begin(call, subject_of(self._name, args, kwargs))
        return call

    def enter_properties(self, inputs: Mapping[str, Any]) -> Call:
        call = self._live.begin(self._name, inputs, self._now())
        for handle in self._begin:
            handle(call)
        return call

    def leave(self, call: Call, result: Any) -> None:
        self._live.end(call)
        seen = self._around.end(call) if self._around is not None else None
        call.outputs = self._outputs.read(result)
        for handle in self._end:
            handle(call)
        if seen:
            self._live.observed(call, seen)

    def enter_for(self, thing: object, inputs: Mapping[str, Any]) -> None:
        """For hooks, which hand no token from the begin to the end: ``thing`` stands for one.

        A call of it that is open still has raised, which hooks do not tell.
        """
        if (dead := self._open.pop(id(thing), None)) is not None:
            self._live.end(dead)
        call = self._open[id(thing)] = self.enter_properties(inputs)
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


def _nothing() -> Mapping[str, Any]:
    return NOTHING


def _function(name: str) -> Any:
    """The function behind ``name``, if it is there already."""
    found = find(name)
    if not isinstance(found, Place):
        return None
    raw = found.raw
    return raw.__func__ if isinstance(raw, staticmethod | classmethod) else raw


def _of_optimizer(step: Step) -> Mapping[str, Any]:
    kind = type(step.optimizer).__name__
    given = step.args[1] if len(step.args) > 1 else step.kwargs.get("closure")
    return {"self.kind": kind} | ({CLOSURE: type(given).__name__} if callable(given) else {})
