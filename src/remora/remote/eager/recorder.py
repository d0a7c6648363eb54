"""What a program asked for and has not been done yet, and the message that has it done."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import torch

from remora.core.errors import BadValue, DeadlineExceeded, Refused, RemoraError, ServerLost
from remora.remote.client.errors import CallFailed
from remora.remote.eager.entries import Entries, Entry, Output
from remora.remote.eager.lines import Line, line_here, shown
from remora.remote.eager.memory import Gone, Memory, attach
from remora.remote.eager.plans import Plans
from remora.remote.eager.scalars import Scalars
from remora.remote.messages import Compute
from remora.remote.segment.plan import FETCH, FREE, PUT, Seen
from remora.remote.wire.arrived import Arrived
from remora.remote.wire.channel import Channel

STREAM = 16_384
"""Numbers in a segment that is sent without being asked for: some thousands of operators."""
PUT_BYTES = 64 * 2**20
"""Bytes put that a segment is sent with without being asked for."""
FREED = 4096
"""Likewise memories that are to be freed."""
AHEAD = 4
"""Segments that may be under way."""
_META = torch._C.DispatchKeySet(torch._C.DispatchKey.Meta)
_as_strided = torch.ops.aten.as_strided.default
_create = torch._C._acc.create_empty_tensor
Answers = tuple[Any, list[Line]]


class Recorder:
    """Records for one device. Thread-safe.

    Args:
        channel: over which all of it goes. What is kept there ends with it.
        entries: kinds of calls.
        batched: whether operators wait until a value is wanted; else each is a round trip.
        deadline_s: for each answer.
    """

    def __init__(
        self,
        channel: Channel,
        entries: Entries,
        *,
        batched: bool = True,
        deadline_s: float | None = None,
    ) -> None:
        self.channel, self.entries = channel, entries
        self._batched, self._deadline_s = batched, deadline_s
        self.lock = threading.RLock()
        self._over: RemoraError | None = None
        self._gone: deque[Gone] = deque()
        self._plans = Plans()
        self._answers: deque[Answers] = deque()
        self._segment, self._number = 0, 0
        self._freed: list[int] = []
        self._begin()

    def _begin(self) -> None:
        self._segment += 1
        self._stream: list[int] = []
        self._used: dict[int, Entry] = {}
        self._inputs: list[int] = []
        self._input_bytes: list[int] = []
        self._scalars = Scalars()
        self._tensors: list[torch.Tensor] = []
        self._lines: list[Line] = []
        self._put_bytes = 0
        self._met, self._first = 0, self._number

    # ------------------------------------------------- recording

    def check(self) -> None:
        """Raises what ended the device, if anything has."""
        if self._over is not None:
            raise self._over

    def add(
        self, entry: Entry, memories: Sequence[Memory], scalars: Sequence[float] = ()
    ) -> list[torch.Tensor | None]:
        """Record a call; returns the tensors that it makes. The lock is held."""
        if self._over is not None:
            raise self._over
        if self._gone:
            self._drain()
        for memory in memories:  # what makes them comes before all that this call reads
            if memory.unmade is not None:
                self.fill(memory, memory.unmade)
        segment = self._segment
        slots = [
            memory.slot if memory.segment == segment else self._slot(memory) for memory in memories
        ]
        if scalars:
            slots += map(self._scalars.number, scalars)
        self._append(entry, slots)
        return [None if output is None else self._made(output) for output in entry.outputs]

    def done(self) -> None:
        """A call has been recorded whole; what is due is sent. The lock is held."""
        if not self._batched:
            self._send()
            self._settle()
        elif len(self._stream) > STREAM or self._put_bytes > PUT_BYTES or len(self._freed) > FREED:
            self._send()
            self._settle(AHEAD)

    def put(self, tensor: torch.Tensor, entry: Entry) -> None:
        """``tensor``, contiguous and not to be changed, is what ``entry`` puts."""
        self._tensors.append(tensor)
        self._put_bytes += tensor.nbytes

    def unmade(self, entry: Entry) -> torch.Tensor:
        """A tensor that ``entry`` will make, when it is first read or written to in part."""
        output = entry.outputs[0]
        if output is None:
            raise BadValue("an operator that gives nothing makes no memory")
        tensor = _tensor(output)
        memory = Memory(self, output.bytes, self._gone)
        memory.unmade = entry
        attach(tensor, memory)
        return tensor

    def fill(self, memory: Memory, entry: Entry) -> None:
        """``entry`` makes what is in ``memory``, which nothing has made yet."""
        self._append(entry, [])
        self._enter_made(memory)

    def fetch(self, seen: Seen, memory: Memory) -> torch.Tensor:
        """The tensor, here. One message goes, with all that waits; one comes.

        Raises:
            Refused: an operator failed that it depends on.
            ServerLost, DeadlineExceeded: no answer came.
        """
        with self.lock:
            self.add(self.entries.special(FETCH, seen), [memory])
            self._send()
            arrived = self._settle()
            if arrived is None or len(arrived.tensors) != 1:
                raise Refused("the server answered without the value that was asked for")
            tensor: torch.Tensor = arrived.tensors[0]
            return tensor

    def synchronize(self) -> None:
        """Return when all that was recorded has been done. Errors as for :meth:`fetch`."""
        with self.lock:
            self.check()
            self._send()
            self._settle()

    @property
    def in_use(self) -> bool:
        """Whether it can still be used."""
        return self._over is None and not self.channel.ended

    def ending(self) -> _ending:
        """Within it, what leaves it unknown what the server has done ends the device."""
        return _ending(self)

    def end(self) -> None:
        """Free all that is on the server. May be called again, also when the server is gone."""
        with self.lock:
            if self._over is not None:
                return
            with suppress(RemoraError):  # what nobody asked the value of may have failed
                self._send()
                self._settle()
            with suppress(RemoraError):
                self.channel.call(Compute(frees_all=True), deadline_s=self._deadline_s)
            self.over(BadValue("this device was closed; make another with server.device()"))

    def over(self, reason: RemoraError) -> None:
        """From now on every use raises ``reason``."""
        with self.lock:
            self._over = self._over or reason

    # ------------------------------------------------- memories

    def _slot(self, memory: Memory) -> int:
        """The number in this segment of a memory that it has not met yet."""
        self._inputs.append(memory.number)
        self._input_bytes.append(memory.bytes)
        self._enter(memory)
        return memory.slot

    def _enter(self, memory: Memory) -> None:
        memory.segment, memory.slot = self._segment, self._met
        self._met += 1

    def _enter_made(self, memory: Memory) -> None:
        memory.number, memory.unmade = self._number, None
        self._number += 1
        self._enter(memory)

    def _made(self, output: Output) -> torch.Tensor:
        tensor = _tensor(output)
        memory = Memory(self, output.bytes, self._gone)
        self._enter_made(memory)
        attach(tensor, memory)
        return tensor

    def _append(self, entry: Entry, slots: Sequence[int]) -> None:
        stream = self._stream
        stream.append(entry.index)
        stream.extend(slots)
        self._used[entry.index] = entry
        self._lines.append(line_here())

    def _drain(self) -> None:
        """What nobody looks at any more is freed where it lies in the stream."""
        while self._gone:
            segment, slot, number = self._gone.popleft()
            if segment == self._segment:
                self._stream += (FREE, slot)
            else:
                self._freed.append(number)

    # ------------------------------------------------- sending

    def _send(self) -> None:
        """Send what waits; its answer is not waited for."""
        self._drain()
        if not self._stream and not self._freed:
            return
        digest, encoded = "", None
        if self._stream:
            digest, encoded = self._plans.of(
                self._stream, self._used, self._input_bytes, len(self._scalars.values)
            )
        tensors = self._tensors if encoded is None else [_bytes(encoded), *self._tensors]
        freed, self._freed = self._freed, []
        asked = Compute(
            digest,
            tuple(self._inputs),
            self._first,
            tuple(freed),
            encoded is not None,
            scalars=tuple(self._scalars.values),
        )
        lines = self._lines
        self._begin()
        with _ending(self):
            answers = self.channel.stream(asked, tensors, deadline_s=self._deadline_s)
        self._answers.append((answers, lines))

    def _settle(self, ahead: int = 0) -> Arrived | None:
        """Wait until no more than ``ahead`` answers are to come; the last that came.

        Raises:
            Refused: the first that an answer tells of. The others were waited for all the same.
        """
        arrived: Arrived | None = None
        failed: RemoraError | None = None
        while len(self._answers) > ahead:
            answers, lines = self._answers.popleft()
            try:
                with _ending(self):
                    arrived = next(answers)
            except RemoraError as error:
                failed = failed or _located(error, lines)
        if failed is not None:
            raise failed
        return arrived


class _ending:  # noqa: N801  a context, lower case as those of contextlib
    """Within it, what leaves it unknown what the server has done ends the device."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if isinstance(error, ServerLost):
            lost = ServerLost(
                f"{error}; what was kept on it is gone: make a device with server.device(), "
                "and the tensors again"
            )
            self._recorder.over(lost)
            raise lost from error
        if isinstance(error, DeadlineExceeded | BadValue | KeyboardInterrupt):
            words = str(error) or type(error).__name__
            self._recorder.over(
                ServerLost(f"it is unknown what was done on the device when {words!r} came over "
                           "it; make another with server.device(), and the tensors again")
            )  # fmt: skip


def _tensor(output: Output) -> torch.Tensor:
    tensor: torch.Tensor = _create(output.sizes, output.dtype)
    if output.strides is not None:
        tensor = _as_strided.redispatch(_META, tensor, output.sizes, output.strides, 0)
    return tensor


def _bytes(encoded: bytes) -> torch.Tensor:
    return torch.frombuffer(bytearray(encoded), dtype=torch.uint8)


def _located(error: RemoraError, lines: Sequence[Line]) -> RemoraError:
    if not isinstance(error, CallFailed) or error.node >= len(lines):
        return error
    where = shown(lines[error.node])
    return Refused(f"{error}, recorded at {where}" if where else str(error))


__all__ = ["PUT", "Recorder"]
