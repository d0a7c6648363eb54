"""Watch a running job's calls and hand them to a sink."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from threading import get_ident
from typing import Any

from remora.check.calls import MODEL_FORWARD, NOTHING, OPTIMIZER_STEP, Call
from remora.check.observation import Alike, Observation
from remora.check.observe.alone import FollowedAlone, judges_alone
from remora.check.observe.around import Around, Unsettled, settled
from remora.check.observe.context import Context
from remora.check.observe.elements import Elements
from remora.check.observe.followed import Followed, FollowedSampled, function_called, of_mode
from remora.check.observe.measuring import Measuring, losses_in
from remora.check.observe.readings import Readings, are_remote, numbers_of
from remora.check.observe.sampling import EVERYTHING, AroundSampled, Sampling, Watching
from remora.check.observe.variables import Variables
from remora.check.sink import Handler, Sink
from remora.core.errors import UserError
from remora.tap.forwards import Forward
from remora.tap.job import Job
from remora.tap.names import find
from remora.tap.steps import Step
from remora.tap.undisturbed import unseen

SEEN_BY_HOOKS = frozenset({OPTIMIZER_STEP, MODEL_FORWARD})
"""Functions that stand for the same method of every class; torch's hooks tell of them."""


class LiveCalls:
    """Follows each thread's stack of watched calls.

    Args:
        every: watch one step in so many (:mod:`remora.check.observe.sampling`).
    """

    def __init__(self, job: Job, sink: Sink, *, every: int = 1) -> None:
        self._job, self.sink = job, sink
        self._sampling = Sampling(every, remembers=sink.remembers)
        self._followed = Followed if every == 1 else FollowedSampled
        self.watching = EVERYTHING
        """Of the step that is under way."""
        self.context = Context()
        self.unknown: dict[str, str] = {}
        """Functions that cannot be watched, and why."""
        self.innermost: dict[int, Call | None] = {}
        """By thread, the watched call that is under way and in which no other is."""
        self._order = itertools.count()
        self.variables = Variables(job)
        self.elements = Elements()
        self._compared = sink.compared()
        self._comparisons = 0
        self._sees_variables = bool(self._compared)
        self._unsettled: list[tuple[Call, Sequence[Observation | Unsettled]]] = []
        self.losses: dict[str, Any] = {}
        """By function, the loss it returned last, where that is wanted."""
        self.keeps_losses = losses_in(sink.measures(OPTIMIZER_STEP))
        self._unmeasured: list[tuple[Call, Readings]] = []

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
            forward = self._followed(self, MODEL_FORWARD, None)
            self._job.steps.subscribe_forward(
                before=partial(self._before_forward, forward),
                after=partial(_after_forward, forward),
            )
        step = self._followed(self, OPTIMIZER_STEP, None)
        self._job.steps.subscribe(
            before=partial(self._before_step, step) if step.matters else None,
            after=partial(self._after_step, step),
        )

    def _watch_one(self, name: str) -> None:
        try:
            function = function_called(name)
            is_alone = self._sampling.every == 1 and judges_alone(self, name)
            make = FollowedAlone if is_alone else self._followed
            followed = make(self, name, function)
            enter = followed.enter if function is not None else followed.enter_late
            self._job.calls.watch(name, before=enter, after=followed.leave, failed=followed.fell)
        except UserError as error:
            self.unknown[name] = str(error)

    def _before_forward(self, followed: Followed, forward: Forward) -> None:
        self.context.enter(forward.module)
        if not self.watching.calls:
            return
        if self._sees_variables and not self.variables.has_run(forward.module):
            unseen(self.variables.ran, forward.module)
        followed.enter_for(forward.module, of_mode(forward.module.training))

    def _before_step(self, followed: Followed, step: Step) -> None:
        if self.watching.calls:
            followed.enter_for(step.optimizer, followed.of_step(step))

    def _after_step(self, followed: Followed, step: Step) -> None:
        if followed.matters:
            followed.leave_for(step.optimizer, None)
        if not step.advances:
            return
        if self.watching.calls:
            if self._unmeasured or self._unsettled or self._compared:
                unseen(self._settle)
            if self._sees_variables:
                self.variables.step_ended()
            self.sink.step_ended(self.context.step)
        self.context.step_ended(step.total, step.optimizer)
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
            self.sink.missed()
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
        looks = self.sink.looks(function)
        if not looks:
            return None
        self._sees_variables = True
        if self._sampling.every > 1:
            return AroundSampled(self.variables, looks, self)
        return Around(self.variables, looks)

    def observed(self, call: Call, seen: Sequence[Observation | Unsettled]) -> None:
        if type(seen) is not Alike and Unsettled in map(type, seen):
            self._unsettled.append((call, seen))
        elif seen:
            self.sink.changed(call, seen)  # type: ignore[arg-type]

    def measuring(self, function: str) -> Measuring | None:
        """What measures at calls of ``function``; None if nobody wants to know."""
        wanted = self.sink.measures(function)
        if not wanted:
            return None
        measuring = Measuring(function, wanted, self, remembers=self._sampling.every == 1)
        self._sees_variables = self._sees_variables or measuring.asks_by_module
        return measuring

    def measured(self, call: Call, readings: Readings) -> None:
        if are_remote(readings):
            self._unmeasured.append((call, readings))
        elif numbers := numbers_of(readings):
            self.sink.measured(call, numbers)

    def _settle(self) -> None:
        """The step ends: fetch what is on devices, once, and compare contents if asked to."""
        if self._unmeasured:
            unmeasured, self._unmeasured = self._unmeasured, []
            for call, readings in unmeasured:
                if numbers := numbers_of(readings):
                    self.sink.measured(call, numbers)
        if self._unsettled:
            waiting, self._unsettled = self._unsettled, []
            whole = iter(settled([one for _, seen in waiting for one in seen]))
            for call, seen in waiting:
                self.sink.changed(call, [next(whole) for _ in seen])
        if self._compared:
            self.variables.meet(None)
            contents = self.variables.contents(self._compared, self._comparisons)
            self._comparisons += 1
            self.sink.compare(self.context.step, contents)

    # ------------------------------------------------------------ the stack

    def beginning(
        self,
        function: str,
        now: Callable[[], Mapping[str, Any]] | None,
        handlers: tuple[Handler, ...],
    ) -> Callable[[Mapping[str, Any]], Call]:
        """What begins a call of ``function``: it goes on its thread's stack, and is told of."""
        innermost, order, context = self.innermost, self._order.__next__, self.context

        def begin(inputs: Mapping[str, Any]) -> Call:
            thread = get_ident()
            around, when = innermost.get(thread), NOTHING if now is None else now()
            call = Call(function, order(), thread, around, context.step, inputs, when)
            innermost[thread] = call
            for handle in handlers:
                handle(call)
            return call

        return begin

    def end(self, call: Call) -> None:
        self.innermost[call.thread] = call.parent

    def call_alone(
        self, function: str, inputs: Mapping[str, Any], context: Mapping[str, Any]
    ) -> Call:
        """A call that was on no stack, and has returned."""
        thread = get_ident()
        around, step = self.innermost.get(thread), self.context.step
        return Call(function, next(self._order), thread, around, step, inputs, context)


def _after_forward(followed: Followed, forward: Forward) -> None:
    followed.leave_for(forward.module, forward.output)
