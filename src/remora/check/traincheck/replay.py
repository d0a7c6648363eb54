"""Replay a trace of TrainCheck's into a sink, as if its calls were made now.

Calls nest by thread as they began and ended. A call without an end (the process was killed, or
the file cut) ends as failed: it has not returned, so nothing can be said of what it lacks. A
record of an end without its beginning is counted and passed over.

Properties are those that a running job has, as far as the trace tells: inputs by the parameter's
name where the function is loaded, else by position; the stage as ``phase``. Neither gradient mode
nor autocast nor rank is told by a trace. What only a trace has (``meta_vars.…``, ``process_id``,
``thread_id``, ``function``) is read where a condition asks for it, and never learned.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from remora.check.calls import NOTHING, OPTIMIZER_STEP, Call
from remora.check.conditions import ABSENT
from remora.check.observation import Look
from remora.check.observe.reading import RESULT
from remora.check.sink import Handler, Sink, Wanted
from remora.check.traincheck.arguments import properties_of
from remora.check.traincheck.clauses import phase_of
from remora.check.traincheck.names import ours
from remora.check.traincheck.parameters import parameter_names
from remora.check.traincheck.records import Begin, End, Raised, Records, State
from remora.check.traincheck.states import States, Told


@dataclass(frozen=True)
class VariableState:
    """What one variable was at one moment."""

    name: str
    type: str
    attributes: Mapping[str, Any]
    """As in the trace: ``data`` and ``grad`` are hashes, ``…_data_ID`` a number of the object."""
    time_ns: int
    process: int
    thread: int
    step: int


@dataclass
class Replayed:
    """What a trace held."""

    calls: int = 0
    states: int = 0
    steps: int = 0
    unfinished: int = 0
    """Calls whose end is missing; they count as failed."""
    unmatched: int = 0
    """Ends whose beginning is missing."""
    warnings: list[str] = field(default_factory=list)


def replay(
    path: Path, sink: Sink, variables: Callable[[VariableState], object] | None = None
) -> Replayed:
    """Hand the events of the trace at ``path`` to ``sink``.

    Args:
        path: the folder that TrainCheck wrote, or one file of it.
        variables: what to do with each state of a variable, in order with the calls.

    Raises:
        TraceUnusable: there is no trace, or a line of it is damaged; file and line are named. A
            last line that is cut short is passed over with a warning.
    """
    records = Records(path)
    run = _Run(sink, variables)
    for step, time, record in records:
        run.advance_to(step)
        run.take(record, time)
    run.finish()
    run.replayed.warnings = records.warnings
    return run.replayed


@dataclass
class _Function:
    """How calls of one function are replayed."""

    name: str
    inputs: dict[str, Any]
    """What its name says of its inputs."""
    parameters: tuple[str, ...]
    wanted: Wanted
    begin: tuple[Handler, ...]
    end: tuple[Handler, ...]
    looks: tuple[Look, ...]


@dataclass
class _Open:
    """A call that has begun; without ``call``, one that nobody asked for."""

    id: str
    function: _Function
    call: Call | None
    process: int = 0
    before: Told | None = None
    """What the variables were as it began, where somebody asks what it does to them."""


class _Run:
    """The threads of the processes of one trace."""

    def __init__(self, sink: Sink, variables: Callable[[VariableState], object] | None) -> None:
        self._sink, self._variables = sink, variables
        self.replayed = Replayed()
        self._states = States()
        self._step: int | None = None
        self._order = itertools.count()
        self._functions: dict[str, _Function] = {}
        self._threads: dict[tuple[int, int], tuple[int, list[_Open]]] = {}

    def advance_to(self, step: int) -> None:
        if self._step is not None and step != self._step:
            self._sink.step_ended(self._step)
            self.replayed.steps += 1
        self._step = step

    def finish(self) -> None:
        for _, stack in self._threads.values():
            self._abandon(stack, 0)
        if self._step is not None:
            self.advance_to(self._step + 1)

    def take(self, record: Begin | End | Raised | State, time: int) -> None:
        if isinstance(record, State):
            self._state(record, time)
            return
        key = (record.process_id, record.thread_id)
        thread, stack = self._threads.setdefault(key, (len(self._threads), []))
        if isinstance(record, Begin):
            self._begin(record, thread, stack)
        else:
            self._end(record, stack)

    def _begin(self, record: Begin, thread: int, stack: list[_Open]) -> None:
        self.replayed.calls += 1
        function = self._function(record.function)
        call = None
        if function.begin or function.end or function.looks:
            parent = next((one.call for one in reversed(stack) if one.call is not None), None)
            call = Call(
                function.name, next(self._order), thread, parent, self._step or 0,
                _inputs(record, function), _context(record, function.wanted),
            )  # fmt: skip
        process = record.process_id
        before = self._states.of(process) if function.looks else None
        stack.append(_Open(record.func_call_id, function, call, process, before))
        for handle in function.begin:
            if call is not None:
                handle(call)

    def _end(self, record: End | Raised, stack: list[_Open]) -> None:
        depth = len(stack) - 1
        while depth >= 0 and stack[depth].id != record.func_call_id:
            depth -= 1
        if depth < 0:
            self.replayed.unmatched += 1
            return
        self._abandon(stack, depth + 1)
        ended = stack.pop()
        if ended.call is not None:
            if isinstance(record, Raised):
                ended.call.failed = True
            elif ended.function.wanted.outputs:
                ended.call.outputs = _outputs(record)
            _handle(ended)
            self._look(ended, ended.call)

    def _look(self, ended: _Open, call: Call) -> None:
        """Tell what a call that has returned did to variables."""
        if ended.before and not call.failed:
            looks = ended.function.looks
            seen = list(self._states.since(ended.before, ended.process, looks))
            if seen:
                self._sink.changed(call, seen)

    def _abandon(self, stack: list[_Open], depth: int) -> None:
        """The calls deeper than ``depth`` never ended."""
        while len(stack) > depth:
            left = stack.pop()
            self.replayed.unfinished += 1
            if left.call is not None:
                left.call.failed = True
                _handle(left)

    def _function(self, name: str) -> _Function:
        known = self._functions.get(name)
        if known is None:
            named = ours(name)
            known = self._functions[name] = _Function(
                named.function, named.inputs, parameter_names(named.function),
                self._sink.wanted(named.function), *self._sink.handlers(named.function),
                self._sink.looks(named.function),
            )  # fmt: skip
        return known

    def _state(self, record: State, time: int) -> None:
        self.replayed.states += 1
        self._states.put(record.process_id, record.var_name, record.var_type, record.attributes)
        if self._variables is not None:
            state = VariableState(
                record.var_name, record.var_type, record.attributes, time,
                record.process_id, record.thread_id, self._step or 0,
            )  # fmt: skip
            self._variables(state)


def _handle(ended: _Open) -> None:
    for handle in ended.function.end:
        if ended.call is not None:
            handle(ended.call)


# ---------------------------------------------------------------- properties


def _inputs(record: Begin, function: _Function) -> Mapping[str, Any]:
    if not function.wanted.inputs and not function.inputs:
        return NOTHING
    found: dict[str, Any] = dict(function.inputs)
    if function.name == OPTIMIZER_STEP:
        return found
    for name, value in _named(record, function.parameters):
        properties_of(name, value, found)
    if record.is_bound_method and "0" in record.args:
        owner, _ = next(_named(record, function.parameters))
        found.setdefault(f"{owner}.identity", (record.obj_id,))
    return found


def _named(record: Begin, parameters: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
    for position, value in record.args.items():
        known = position.isdigit() and int(position) < len(parameters)
        yield parameters[int(position)] if known else position, value
    yield from record.kwargs.items()


def _outputs(record: End) -> Mapping[str, Any]:
    found: dict[str, Any] = {}
    properties_of(RESULT, record.return_values, found)
    return found


def _context(record: Begin, wanted: Wanted) -> Mapping[str, Any]:
    if not wanted.inputs:
        return NOTHING
    found = {}
    if (stage := record.meta_vars.get("stage")) is not None:
        found["phase"] = phase_of(stage)
    for name in wanted.inputs:
        value = _told(record, name)
        if value is not ABSENT:
            found[name] = value
    return found


def _told(record: Begin, name: str) -> Any:
    """What only a trace tells."""
    if name.startswith("meta_vars."):
        return _at(record.meta_vars, name.removeprefix("meta_vars."))
    if name in ("process_id", "thread_id", "function"):
        return getattr(record, name)
    return ABSENT


def _at(values: Any, path: str) -> Any:
    """What lies at ``path``, whose parts may hold dots themselves."""
    if not isinstance(values, Mapping):
        return ABSENT
    if path in values:
        return values[path]
    dots = (at for at, character in enumerate(path) if character == ".")
    found = (_at(values.get(path[:at]), path[at + 1 :]) for at in dots)
    return next((value for value in found if value is not ABSENT), ABSENT)
