"""Record a run: every event a line, as soon as a step or a second is over on its way to the file.

Killing the process costs what was observed since: the operating system has the rest.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Hashable, Mapping, Sequence
from io import RawIOBase
from typing import Any

import msgspec

from remora.check.broad import Broad
from remora.check.calls import Call
from remora.check.observation import Observation
from remora.check.ranks.contents import number_of
from remora.check.trace.events import (
    DIGEST,
    IDENTITY,
    MOST_LISTS,
    Begin,
    Changed,
    Compare,
    End,
    FunctionName,
    Header,
    Identity,
    Measured,
    NameList,
    ObservationList,
    PropertiesOf,
    RunEnded,
    Seen,
    StepEnded,
    ThreadNumber,
    is_odd,
    spelled,
    spelled_number,
)
from remora.check.trace.numbers import Identities, Numbers
from remora.core.errors import TraceUnusable

BUFFER_BYTES = 64 * 1024
"""What waits for the end of a step at most."""
_PLACE = Identity()
_NONE: tuple[int, ...] = ()


class Recorder(Broad):
    """Writes what it is fed to ``file``, in the order of the events of all threads.

    Args:
        file: unbuffered, at its end; closed by :meth:`close`.
        program: what the header calls the run.
        most_bytes: past it nothing more is recorded, and :attr:`full` is true.
    """

    def __init__(
        self, file: RawIOBase, *, program: str = "", rank: int = 0, most_bytes: int | None = None
    ) -> None:
        super().__init__()
        self._file, self._program, self._rank = file, program, rank
        self._left = most_bytes if most_bytes is not None else sys.maxsize
        self._encode = msgspec.json.Encoder()
        self._buffer = bytearray()
        self._begun = False
        self._functions: Numbers[str] = Numbers()
        self._threads: Numbers[int] = Numbers()
        self._properties: Numbers[bytes] = Numbers()
        self._observations: Numbers[tuple[Seen, ...]] = Numbers(MOST_LISTS)
        self._names: Numbers[tuple[str, ...]] = Numbers(MOST_LISTS)
        self._identities = Identities()
        self._lock = threading.RLock()  # a finalizer may call a watched function in here
        self.full = False
        self._is_told = False
        """Whether a flush has failed, and said so."""

    def begin(self, call: Call) -> None:
        with self._lock:
            self._make_room(2)
            inputs, identities = self._apart(call.inputs)
            self._add(
                Begin(
                    function=self._function(call.function),
                    order=call.order,
                    thread=self._thread(call.thread),
                    parent=call.parent.order if call.parent is not None else None,
                    step=call.step,
                    inputs=self._properties_of(inputs),
                    context=self._properties_of(call.context),
                    identities=identities,
                )
            )

    def end(self, call: Call) -> None:
        with self._lock:
            self._make_room(1)
            outputs, identities = self._apart(call.outputs)
            self._add(End(call.order, self._properties_of(outputs), call.failed, identities))

    def changed(self, call: Call, observations: Sequence[Observation]) -> None:
        with self._lock:
            self._make_room(len(observations))
            self._add(Changed(call.order, self._observed(observations)))

    def measured(self, call: Call, numbers: Mapping[str, float]) -> None:
        with self._lock:
            values = tuple(map(spelled_number, numbers.values()))
            self._add(Measured(call.order, self._names_of(tuple(numbers)), values))

    def compare(self, step: int, contents: Mapping[str, Hashable]) -> None:
        with self._lock:
            numbers = tuple(map(number_of, contents.values()))
            self._add(Compare(step, self._names_of(tuple(contents)), numbers))

    def step_ended(self, step: int) -> None:
        with self._lock:
            self._add(StepEnded(step))
            self.flush()

    def run_ended(self, exit_code: int | None = None) -> None:
        """The program is over; a trace without this is one of a process that was killed."""
        with self._lock:
            self._add(RunEnded(exit_code))
            self.flush()

    def flush(self) -> None:
        """Hand all there is to the operating system.

        Raises:
            TraceUnusable: it takes no more now.
        """
        with self._lock:
            try:
                while self._buffer:
                    del self._buffer[: self._file.write(self._buffer)]
            except OSError as error:
                self._is_told = True
                name = getattr(self._file, "name", None)  # a number, of one that has no name
                where = name if isinstance(name, str | os.PathLike) else "the trace"
                raise TraceUnusable(
                    f"{where}: {error.strerror}; the trace ends here, what it holds can be used"
                ) from None

    def close(self) -> None:
        """Flush and close; harmless when done twice, and where a flush has failed before."""
        with self._lock:
            was_told = self._is_told
            if self._file.closed:
                return
            try:
                self.flush()
            except TraceUnusable:
                if not was_told:
                    raise
            finally:
                self._file.close()

    # ------------------------------------------------------------ lines

    def _add(self, event: msgspec.Struct) -> None:
        if self.full:
            return
        if not self._begun:
            self._begun = True
            self._add(self._header())
        buffer = self._buffer
        before = len(buffer)
        self._encode.encode_into(event, buffer, -1)
        buffer += b"\n"
        self._left -= len(buffer) - before
        self.full = self._left < 0
        if len(buffer) > BUFFER_BYTES:
            self.flush()

    def _header(self) -> Header:
        torch = sys.modules.get("torch")
        version = str(torch.__version__) if torch is not None else None
        return Header(program=self._program, rank=self._rank, pid=os.getpid(), torch=version)

    def _function(self, name: str) -> int:
        if (number := self._functions.known.get(name)) is None:
            number = self._functions.take(name)
            looked = bool(self.looks(name) or self.measures(name))
            self._add(FunctionName(number, name, looked))
        return number

    def _thread(self, thread: int) -> int:
        if (number := self._threads.known.get(thread)) is None:
            number = self._threads.take(thread)
            self._add(ThreadNumber(number, thread))
        return number

    def _properties_of(self, values: Mapping[str, Any]) -> int:
        said = self._said(values)
        if (number := self._properties.known.get(said)) is None:
            number = self._properties.take(said)
            self._add(PropertiesOf(number, msgspec.Raw(said)))  # type: ignore[arg-type]
        return number

    def _make_room(self, properties: int) -> None:
        if self._properties.make_room(properties):
            self._observations.known.clear()  # they refer to properties by number

    def _observed(self, observations: Sequence[Observation]) -> int:
        seen = tuple(
            Seen(one.name, self._properties_of(one.properties), *one[2:]) for one in observations
        )
        if (number := self._observations.known.get(seen)) is None:
            number = self._observations.take(seen)
            self._add(ObservationList(number, seen))
        return number

    def _names_of(self, names: tuple[str, ...]) -> int:
        if (number := self._names.known.get(names)) is None:
            number = self._names.take(names)
            self._add(NameList(number, names))
        return number

    def _apart(self, values: Mapping[str, Any]) -> tuple[Mapping[str, Any], tuple[int, ...]]:
        """The properties that repeat, and the identities that do not."""
        found = [name for name in values if name.endswith((IDENTITY, DIGEST))]
        if not found:
            return values, _NONE
        numbers = tuple([self._identity(name, values[name]) for name in found])
        return {**values, **dict.fromkeys(found, _PLACE)}, numbers

    def _identity(self, name: str, value: Any) -> int:
        if name.endswith(IDENTITY):
            return self._identities.number(value)
        (digest,) = value
        return int(digest)

    def _said(self, values: Mapping[str, Any]) -> bytes:
        """As JSON; what makes two dicts the same is that this is."""
        values = dict(values) if type(values) is not dict else values
        try:
            said = self._encode.encode(values)
        except UnicodeEncodeError:
            return self._encode.encode(spelled(values))
        if b"null" in said and is_odd(tuple(values.values())):  # None as a rule, else a NaN
            return self._encode.encode(spelled(values))
        return said
