"""One watched function, from the begin of a call to its end."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from remora.check.calls import CLOSURE, MODEL_FORWARD, Call, Known
from remora.check.measures import ELEMENTS
from remora.check.observe.around import Seen
from remora.check.observe.context import PROPERTIES
from remora.check.observe.moment import Moment
from remora.check.observe.reading import Inputs, Outputs
from remora.check.observe.readings import Readings
from remora.check.observe.subjects import subject_of
from remora.check.sink import Wanted
from remora.tap.names import Place, find
from remora.tap.steps import Step
from remora.tap.undisturbed import out_of_sight

if TYPE_CHECKING:
    from remora.check.observe.live import LiveCalls

Enter = Callable[[tuple[Any, ...], dict[str, Any]], Call]
Leave = Callable[[Call, Any], None]


class Followed:
    """What is paid at every call is put together once, in closures: :attr:`enter`, :attr:`leave`.

    Args:
        live: whose calls they are.
        name: of the function.
        function: itself, for the names of its parameters; None if it is not there yet.
    """

    def __init__(self, live: LiveCalls, name: str, function: Any) -> None:
        wanted: Wanted = live.sink.wanted(name)
        self._live, self._name = live, name
        everything = "*" in wanted.inputs
        self._wanted = wanted.inputs - PROPERTIES
        self._inputs, self._late = Inputs(function, self._wanted), function is None
        self._reads_elements = everything or ELEMENTS in wanted.inputs
        now = live.context.asking(PROPERTIES if everything else wanted.inputs & PROPERTIES)
        begin, self._end = live.sink.handlers(name)
        self._around, self._measuring = live.around(name), live.measuring(name)
        self._looks = self._around is not None or self._measuring is not None
        self.matters = bool(begin or self._end or self._looks)
        """Whether anything is done with its calls."""
        self._open: dict[int, Call] = {}
        self._now, self._begin = now, live.beginning(name, now, begin)
        self.enter = self._entering()
        self.leave = self._leaving(Outputs(wanted.outputs))

    def _entering(self) -> Enter:
        begin, read, name, look = self._begin, self._inputs.read, self._name, self._look

        def enter(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call:
            return begin(read(args, kwargs))

        def enter_and_look(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call:
            call = begin(read(args, kwargs))
            look(call, subject_of(name, args, kwargs))
            return call

        return enter_and_look if self._looks else enter

    def _leaving(self, outputs: Outputs) -> Leave:
        live, handlers, innermost = self._live, self._end, self._live.innermost
        read = outputs.read if outputs.wanted else None
        looks, look, keep_loss = self._looks, self._look_again, self._loss_keeper()

        def leave(call: Call, result: Any) -> None:
            innermost[call.thread] = call.parent
            if read is not None:
                call.outputs = read(result)
            for handle in handlers:
                handle(call)

        def look_and_leave(call: Call, result: Any) -> None:
            seen, readings = look(call) if looks else (None, None)
            leave(call, result)
            if seen:
                live.observed(call, seen)
            if readings:
                live.measured(call, readings)
            if keep_loss is not None:
                keep_loss(result)

        return look_and_leave if looks or keep_loss is not None else leave

    def _loss_keeper(self) -> Callable[[Any], None] | None:
        """What keeps a result that is a loss; None where none is wanted."""
        losses, name = self._live.losses, self._name
        if name not in self._live.keeps_losses:
            return None

        def keep(result: Any) -> None:
            if getattr(result, "requires_grad", False) and result.numel() == 1:
                with suppress(RuntimeError):  # one of many at once, under vmap, has no number
                    losses[name] = result.item() if result.is_cpu else result.detach()

        return keep

    def _look(self, call: Call, subject: Any) -> None:
        """What is known before the call of what it may change."""
        moment, variables = Moment(), self._live.variables
        with out_of_sight(), variables.lock:
            if not variables.may_look(call.thread, only_runs=self._name == MODEL_FORWARD):
                return
            if self._around is not None:
                self._around.begin(call, subject, moment)
            if self._measuring is not None:
                self._measuring.begin(call, subject, moment)

    def _look_again(self, call: Call) -> tuple[Seen, Readings]:
        moment, variables = Moment(), self._live.variables
        with out_of_sight(), variables.lock:
            if variables.by_several_threads:
                return (), []
            seen = self._around.end(call, moment) if self._around is not None else ()
            return seen, self._measuring.end(call, moment) if self._measuring is not None else []

    def enter_late(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call:
        """For a function that was not there yet: its parameters get their names now."""
        if self._late:
            self._late = False
            self._inputs = Inputs(function_called(self._name), self._wanted)
            self.enter = self._entering()
        return self.enter(args, kwargs)

    def enter_for(self, thing: object, inputs: Mapping[str, Any]) -> None:
        """For hooks, which hand no token from the begin to the end: ``thing`` stands for one.

        A call of it that is open still has raised, which hooks do not tell.
        """
        if (dead := self._open.pop(id(thing), None)) is not None:
            self._live.end(dead)
        call = self._open[id(thing)] = self._begin(inputs)
        if self._looks:
            self._look(call, thing)

    def leave_for(self, thing: object, result: Any) -> None:
        if (call := self._open.pop(id(thing), None)) is not None:
            self.leave(call, result)

    def of_step(self, step: Step) -> Known:
        """Properties of the optimizer and what it is given, as inputs of its step."""
        optimizer = step.optimizer
        elements = self._live.elements.of(optimizer) if self._reads_elements else None
        given = step.args[1] if len(step.args) > 1 else step.kwargs.get("closure")
        closure = type(given).__name__ if callable(given) else None
        return _of_optimizer(type(optimizer).__name__, elements, closure)

    def fell(self, call: Call, error: BaseException) -> None:
        self._live.end(call)
        call.failed = True
        for handle in self._end:
            handle(call)


class FollowedSampled(Followed):
    """One watched function, where some steps are not watched.

    A call that was under way at a change over was not seen whole: it began in a step that is not
    watched and has no token, or was abandoned and counts as failed.
    """

    def _leaving(self, outputs: Outputs) -> Leave:
        leave = super()._leaving(outputs)

        def leave_whole(call: Call | None, result: Any) -> None:
            if call is not None and not call.failed:
                leave(call, result)

        return leave_whole

    def fell(self, call: Call | None, error: BaseException) -> None:
        if call is not None and not call.failed:
            super().fell(call, error)


def function_called(name: str) -> Any:
    """The function behind ``name``, if it is there already."""
    found = find(name)
    if not isinstance(found, Place):
        return None
    raw = found.raw
    return raw.__func__ if isinstance(raw, staticmethod | classmethod) else raw


@lru_cache(maxsize=64)
def of_mode(training: bool) -> Known:
    """The properties of a root module, as inputs of its forward."""
    return Known({"self.training": training})


@lru_cache(maxsize=64)
def _of_optimizer(kind: str, elements: int | None, closure: str | None) -> Known:
    told = {ELEMENTS: elements, CLOSURE: closure}
    return Known({"self.kind": kind} | {k: v for k, v in told.items() if v is not None})
