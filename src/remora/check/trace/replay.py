"""Play a recorded run back into a sink: it sees what it would have seen live, event for event.

A file is read a line at a time and by schema; nothing in it is evaluated, and what has to be
remembered of it is bounded by :data:`remora.check.trace.events.MOST_NUMBERS` and the calls that are
open at once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from io import BufferedIOBase, RawIOBase
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from remora.check.calls import Call
from remora.check.observation import Observation
from remora.check.sink import Handler, Sink
from remora.check.trace.events import (
    FORMAT,
    MOST_LISTS,
    MOST_NUMBERS,
    VERSION,
    Begin,
    Changed,
    Compare,
    End,
    Event,
    FunctionName,
    Header,
    Identity,
    Measured,
    NameList,
    ObservationList,
    Odd,
    PropertiesOf,
    RunEnded,
    StepEnded,
    ThreadNumber,
    unspelled,
)
from remora.core.errors import TraceUnusable
from remora.core.files import UNDECODABLE

LONGEST_LINE = 16 << 20
"""A list of a hundred thousand variables fits."""


class Followed(NamedTuple):
    """One function."""

    name: str
    begins: tuple[Handler, ...]
    ends: tuple[Handler, ...]
    looked: bool


@dataclass(frozen=True)
class Replayed:
    """What was played back."""

    header: Header
    steps: int
    events: int
    """Calls begun, calls ended, steps ended, and what was seen of variables."""
    ended: bool
    """False where the process was killed: its end was never recorded."""
    exit_code: int | None
    cut: bool
    """The last line was cut short and left out, as a process leaves it that is killed."""


def replay(path: Path, sink: Sink) -> Replayed:
    """Feed every event of the file at ``path`` to ``sink``.

    Raises:
        TraceUnusable: it is not there, none of ours, or damaged; the line is named.
    """
    try:
        with path.open("rb") as file:
            return replay_file(file, str(path), sink)
    except OSError as error:
        raise TraceUnusable(f"{path} cannot be read: {error.strerror}") from None


def replay_file(file: BufferedIOBase | RawIOBase, name: str, sink: Sink) -> Replayed:
    """The same of an open file, read from where it stands; errors call it ``name``."""
    return _Replay(name, sink).run(file)


class _Replay:
    def __init__(self, name: str, sink: Sink) -> None:
        self._name, self._sink = name, sink
        self._line = 0
        self._functions: dict[int, Followed] = {}
        self._threads: dict[int, int] = {}
        self._properties: dict[int, Mapping[str, Any]] = {}
        self._innermost: dict[int, Call | None] = {}
        """By thread, kept exactly as it is kept live."""
        self._open: dict[int, tuple[Call, Followed]] = {}
        self._looked: dict[int, Call] = {}
        """Calls that have ended, of which it may yet come what they did to variables."""
        self._observations: dict[int, list[Observation]] = {}
        self._names: dict[int, tuple[str, ...]] = {}
        self._steps = self._events = 0
        self._ended: RunEnded | None = None
        self._on: dict[type[Any], Callable[[Any], None]] = {
            FunctionName: self._function,
            ThreadNumber: self._thread,
            PropertiesOf: self._properties_of,
            ObservationList: self._observations_of,
            NameList: self._names_of,
            Begin: self._begin,
            End: self._end,
            Changed: self._changed,
            Measured: self._measured,
            Compare: self._compare,
            StepEnded: self._step_ended,
            RunEnded: self._run_ended,
        }

    def run(self, file: BufferedIOBase | RawIOBase) -> Replayed:
        header, cut = Header(), False
        decode, on = msgspec.json.Decoder(Event).decode, self._on
        while line := file.readline(LONGEST_LINE):
            self._line += 1
            if not line.endswith(b"\n"):
                if len(line) >= LONGEST_LINE:
                    raise self._damaged(f"it is longer than {LONGEST_LINE:,} bytes")
                cut = True
            elif self._line == 1:
                header = self._header(line)
            else:
                try:
                    event = decode(line)
                    on[type(event)](event)
                except (*UNDECODABLE, _Unknown) as error:
                    raise self._damaged(str(error)) from None
        return self._replayed(header, cut)

    def _replayed(self, header: Header, cut: bool) -> Replayed:
        ended = self._ended
        code = ended.exit_code if ended is not None else None
        return Replayed(header, self._steps, self._events, ended is not None, code, cut)

    def _header(self, line: bytes) -> Header:
        try:
            header = msgspec.json.decode(line, type=Header)
        except UNDECODABLE as error:
            raise TraceUnusable(f"{self._name}, line 1: no trace ({error})") from None
        if header.format != FORMAT or header.version != VERSION:
            raise TraceUnusable(
                f"{self._name} is a {header.format} of version {header.version}; this Remora "
                f"reads {FORMAT} of version {VERSION}; record it again"
            )
        return header

    # ------------------------------------------------------------ names

    def _function(self, event: FunctionName) -> None:
        self._check_number(event.number)
        followed = Followed(event.name, *self._sink.handlers(event.name), event.looked)
        self._functions[event.number] = followed

    def _thread(self, event: ThreadNumber) -> None:
        self._check_number(event.number)
        self._threads[event.number] = event.thread

    def _properties_of(self, event: PropertiesOf) -> None:
        self._check_number(event.number)
        try:
            self._properties[event.number] = unspelled(event.values)
        except ValueError as error:
            raise _Unknown(str(error)) from None

    def _observations_of(self, event: ObservationList) -> None:
        self._check_number(event.number, MOST_LISTS)
        try:
            self._observations[event.number] = [
                Observation(
                    one.name, self._properties[one.properties], one.in_use, one.none,
                    one.changed, one.zero, one.finite,
                )
                for one in event.seen
            ]  # fmt: skip
        except KeyError as error:
            raise _unknown(error) from None

    def _names_of(self, event: NameList) -> None:
        self._check_number(event.number, MOST_LISTS)
        self._names[event.number] = event.names

    def _check_number(self, number: int, most: int = MOST_NUMBERS) -> None:
        if not 0 <= number < most:
            raise _Unknown(f"number {number} is not below {most:,}")

    # ------------------------------------------------------------ events

    def _begin(self, event: Begin) -> None:
        try:
            followed, thread = self._functions[event.function], self._threads[event.thread]
            inputs, context = self._properties[event.inputs], self._properties[event.context]
        except KeyError as error:
            raise _unknown(error) from None
        if event.identities:
            inputs = _with_identities(inputs, event.identities)
        parent = self._parent(event.parent, thread)
        call = Call(followed.name, event.order, thread, parent, event.step, inputs, context)
        self._innermost[thread] = call
        self._open[event.order] = (call, followed)
        self._events += 1
        for handle in followed.begins:
            handle(call)

    def _parent(self, order: int | None, thread: int) -> Call | None:
        """An open call, or one that has ended but that its thread was taken to be in."""
        if order is None:
            return None
        around = self._innermost.get(thread)
        while around is not None:
            if around.order == order:
                return around
            around = around.parent
        if order not in self._open:
            raise _Unknown(f"call {order}, which this one is within, never began")
        return self._open[order][0]

    def _end(self, event: End) -> None:
        found = self._open.pop(event.order, None)
        if found is None:
            raise _Unknown(f"call {event.order} ends, which never began")
        call, followed = found
        try:
            outputs = self._properties[event.outputs]
        except KeyError as error:
            raise _unknown(error) from None
        if event.identities:
            outputs = _with_identities(outputs, event.identities)
        self._innermost[call.thread] = call.parent
        call.outputs, call.failed = outputs, event.failed
        if followed.looked:
            self._keep(call)
        self._events += 1
        for handle in followed.ends:
            handle(call)

    def _keep(self, call: Call) -> None:
        self._looked[call.order] = call
        if len(self._looked) > MOST_NUMBERS:  # a program that makes no steps
            del self._looked[next(iter(self._looked))]

    def _changed(self, event: Changed) -> None:
        call = self._looked.get(event.order)
        if call is None:
            raise _Unknown(f"call {event.order}, which changed variables, has not ended")
        try:
            observations = self._observations[event.observations]
        except KeyError as error:
            raise _unknown(error) from None
        self._events += 1
        self._sink.changed(call, observations)

    def _measured(self, event: Measured) -> None:
        call, names = self._looked.get(event.order), self._names.get(event.names)
        if call is None or names is None or len(names) != len(event.values):
            raise _Unknown(f"{len(event.values)} numbers of no call, or of others")
        try:
            values = [float(one.value) if isinstance(one, Odd) else one for one in event.values]
        except ValueError as error:
            raise _Unknown(str(error)) from None
        self._events += 1
        self._sink.measured(call, dict(zip(names, values, strict=True)))

    def _compare(self, event: Compare) -> None:
        names = self._names.get(event.names)
        if names is None or len(names) != len(event.contents):
            raise _Unknown(f"{len(event.contents)} contents of no or other variables")
        self._events += 1
        self._sink.compare(event.step, dict(zip(names, event.contents, strict=True)))

    def _step_ended(self, event: StepEnded) -> None:
        self._steps += 1
        self._events += 1
        self._looked.clear()
        self._sink.step_ended(event.step)

    def _run_ended(self, event: RunEnded) -> None:
        self._ended = event

    def _damaged(self, why: str) -> TraceUnusable:
        return TraceUnusable(
            f"{self._name}, line {self._line}: {why}; the trace is damaged or of another version"
        )


class _Unknown(Exception):
    """A line refers to what was never written."""


def _unknown(error: KeyError) -> _Unknown:
    return _Unknown(f"number {error} stands for nothing yet")


def _with_identities(values: Mapping[str, Any], identities: Sequence[int]) -> dict[str, Any]:
    """``values`` with each identity in its place, a tuple: nothing is learned of it."""
    places = [name for name, value in values.items() if type(value) is Identity]
    if len(places) != len(identities):
        raise _Unknown(f"{len(identities)} identities for {len(places)} places")
    return {**values, **dict(zip(places, [(one,) for one in identities], strict=True))}
