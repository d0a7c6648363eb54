"""The journal: what the script read out of its tensors, and where its random numbers stood.

A file of frames, appended to and never rewritten. A frame is a 16-byte head, little-endian:

======  =====  ==========================================================================
offset  bytes  what
======  =====  ==========================================================================
0       4      length of the payload
4       4      kind (:class:`Kind`)
8       8      xxh3-64 of the head's first 8 bytes and the payload, seeded with the last
               frame's checksum
======  =====  ==========================================================================

and a payload in MessagePack. Since each frame is sealed with the one before it, a reader stops at
the first that is torn or left over from an earlier attempt. Frames after the point a run resumes at
are written over; the first new one, which counts the attempts, seals off whatever remains of them.

Entries lie in the order in which the script asked, with the number of optimizer steps done by then.
A :class:`Point` stands where a checkpoint was begun: it is what a resumed run replays up to. The
journal up to a point is durable before its checkpoint is committed.
"""

from __future__ import annotations

import enum
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import msgspec
import xxhash

from remora.checkpoint.storage.contract import Storage, StorageFile
from remora.core.errors import CheckpointUnusable

JOURNAL_VERSION = 1
HEAD_BYTES = 16
MAX_PAYLOAD_BYTES = 64 * 2**20
"""No frame is longer: a length beyond it is damage."""
_BATCH_BYTES = 64 * 1024
"""Kept back for one frame, unless an optimizer steps sooner."""


class Kind(enum.IntEnum):
    """What a frame holds."""

    BEGUN = 1
    ENTRIES = 2
    POINT = 3
    RESUMED = 4
    ENDED = 5


class Begun(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """The first frame."""

    version: int
    script: str
    """What was run: a file's name or a module's."""
    arguments: list[str]
    after_sequence: int
    """The newest checkpoint that was in the folder and is not this run's; 0 for none."""


class Entry(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False):
    """One answer the script was given."""

    kind: str
    """How it asked: ``item``, ``bool``, ``numpy`` …"""
    value: Any


class Entries(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Answers given after ``calls`` optimizer steps."""

    calls: int
    entries: list[Entry]


class Point(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Where a checkpoint was begun."""

    step: int
    """The job's completed steps."""
    calls: int
    """Steps of all optimizers together."""
    at: str
    """``forward``, ``step`` or ``end``: before what the state was captured."""
    random: dict[str, bytes] = {}
    """Where torch's generators stood when the last of those steps was done. What the script drew
    from there to the point, replay draws again."""


class Resumed(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """The script was started again and has got to the point before this."""

    attempt: int


class Ended(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """The script ran to its end."""

    step: int
    calls: int


Frame = Begun | Entries | Point | Resumed | Ended
_KINDS: dict[type, Kind] = {
    Begun: Kind.BEGUN, Entries: Kind.ENTRIES, Point: Kind.POINT, Resumed: Kind.RESUMED,
    Ended: Kind.ENDED,
}  # fmt: skip
_TYPES: dict[int, type[Frame]] = {int(kind): struct for struct, kind in _KINDS.items()}
_encoder = msgspec.msgpack.Encoder()
_decoders = {number: msgspec.msgpack.Decoder(struct) for number, struct in _TYPES.items()}


def encode(frame: Frame, seal: int) -> tuple[bytes, int]:
    """``frame`` as bytes, following the frame whose checksum is ``seal``; and its own."""
    payload = _encoder.encode(frame)
    head = len(payload).to_bytes(4, "little") + int(_KINDS[type(frame)]).to_bytes(4, "little")
    own = _checksum(head, payload, seal)
    return head + own.to_bytes(8, "little") + payload, own


def _checksum(head: bytes, payload: bytes | memoryview, seal: int) -> int:
    digest = xxhash.xxh3_64(head, seed=seal)
    digest.update(payload)
    return digest.intdigest()


@dataclass(frozen=True)
class Placed:
    """A frame, where it ends, and the checksum the next one is sealed with."""

    frame: Frame
    end: int
    seal: int


def decode(data: memoryview) -> Iterator[Placed]:
    """The frames of a journal, up to the first that is not whole."""
    at, seal = 0, 0
    while (placed := _decode_one(data, at, seal)) is not None:
        yield placed
        at, seal = placed.end, placed.seal


def _decode_one(data: memoryview, at: int, seal: int) -> Placed | None:
    head = bytes(data[at : at + HEAD_BYTES])
    if len(head) < HEAD_BYTES:
        return None
    length, kind = int.from_bytes(head[:4], "little"), int.from_bytes(head[4:8], "little")
    begin = at + HEAD_BYTES
    if length > min(MAX_PAYLOAD_BYTES, len(data) - begin) or kind not in _TYPES:
        return None
    payload = data[begin : begin + length]
    own = int.from_bytes(head[8:], "little")
    if _checksum(head[:8], payload, seal) != own:
        return None
    try:
        frame = _decoders[kind].decode(payload)
    except msgspec.DecodeError:  # sealed well, and by no version that we know
        return None
    return Placed(frame, begin + length, own)


@dataclass(frozen=True)
class Log:
    """A journal, read."""

    name: str
    begun: Begun
    frames: tuple[Placed, ...] = field(repr=False)

    @property
    def ended(self) -> Ended | None:
        """How the script ended, where it did."""
        last = self.frames[-1].frame
        return last if isinstance(last, Ended) else None

    @property
    def attempts(self) -> int:
        """How often the script has been started."""
        return 1 + sum(isinstance(placed.frame, Resumed) for placed in self.frames)

    def upto(self, step: int) -> Log | None:
        """This journal as it was when the checkpoint of ``step`` was begun; None if it was not."""
        for index in range(len(self.frames) - 1, -1, -1):
            frame = self.frames[index].frame
            if isinstance(frame, Point) and frame.step == step:
                return Log(self.name, self.begun, self.frames[: index + 1])
        return None


def read(storage: Storage, name: str) -> Log | None:
    """The journal ``name``; None where there is none, or not even its beginning.

    Raises:
        CheckpointUnusable: another version wrote it.
    """
    try:
        file = storage.open(name)
    except FileNotFoundError:
        return None
    with file:
        data = memoryview(bytearray(file.size()))
        data = data[: file.pread(data, 0)]
    frames = tuple(decode(data))
    if not frames or not isinstance(begun := frames[0].frame, Begun):
        return None
    if begun.version != JOURNAL_VERSION:
        raise CheckpointUnusable(
            f"{name!r} is a journal of version {begun.version}, and this Remora reads "
            f"{JOURNAL_VERSION}; resume with the version that wrote it, or start over with --fresh"
        )
    return Log(name, begun, frames)


class Journal:
    """The journal being written. One thread notes; any thread may flush."""

    def __init__(self, storage: Storage, name: str, begin: Begun | Log) -> None:
        self._file: StorageFile = storage.open(name, create=True)
        self.calls = 0
        self._pending: list[Entry] = []
        self._pending_bytes = 0
        self._guard = threading.Lock()
        self._synced = -1
        self._closed = False
        if isinstance(begin, Begun):
            self._end = self._seal = 0
            self._write(begin)
            storage.sync_names()
        else:
            last = begin.frames[-1]
            self._end, self._seal = last.end, last.seal
            self._write(Resumed(begin.attempts))

    def note(self, kind: str, value: Any, size: int = 16) -> None:
        """The script was given ``value``, about ``size`` bytes of it. Nothing once closed: what was
        laid over a patch of ours may still call it."""
        if self._closed:
            return
        self._pending.append(Entry(kind, value))
        self._pending_bytes += size
        if self._pending_bytes >= _BATCH_BYTES:
            self._write_pending()

    def stepped(self) -> None:
        """An optimizer has stepped: what is noted from here on comes after it."""
        if self._pending:
            self._write_pending()
        self.calls += 1

    def mark(self, frame: Point | Ended) -> None:
        """A checkpoint begins here, or the script ends."""
        if self._pending:
            self._write_pending()
        self._write(frame)

    def _write_pending(self) -> None:
        entries, self._pending, self._pending_bytes = self._pending, [], 0
        self._write(Entries(self.calls, entries))

    def _write(self, frame: Frame) -> None:
        data, self._seal = encode(frame, self._seal)
        self._file.pwrite(memoryview(data), self._end)
        self._end += len(data)

    def flush(self) -> None:
        """Make every frame written so far durable.

        Raises:
            OSError: none of what is not durable yet may be relied on.
        """
        with self._guard:
            if (end := self._end) > self._synced:
                self._file.fdatasync()
                self._synced = end

    def close(self) -> None:
        """Calling it twice does no harm."""
        self._closed = True
        self._file.close()
