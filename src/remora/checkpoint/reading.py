"""Finding committed checkpoints and reading them: every byte that is used has been verified."""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property

import torch
import xxhash

from remora.checkpoint import commit
from remora.checkpoint.layout import records, slot_file
from remora.checkpoint.layout.chunks import Segment, segments
from remora.checkpoint.layout.records import Entry
from remora.checkpoint.layout.slot_file import SlotLayout, root_of
from remora.checkpoint.storage.aligned import aligned
from remora.checkpoint.storage.contract import BLOCK, Storage
from remora.core.errors import BadValue, CheckpointDamaged

READ_THREADS = 2


@dataclass(frozen=True)
class Found:
    """A checkpoint that a record lists; whether it is whole, reading tells."""

    entry: Entry
    kind: str
    """live, archived, or given up (whole only as long as nothing has been written over it)."""
    moving: bool = False
    """A record of it is in the archive: some or all of its parts may be there."""

    def places(self) -> list[list[str]]:
        """The names that its parts may have. A move to the archive, part by part, may have been
        cut short, and another checkpoint of that step may have been there before."""
        parts, entry = range(self.entry.parts), self.entry
        slots = [commit.slot_name(entry.slot, part, entry.parts) for part in parts]
        if not self.moving:
            return [slots]
        archive = [commit.archive_name(entry.step, part, entry.parts) for part in parts]
        return [archive[:moved] + slots[moved:] for moved in range(entry.parts, -1, -1)]

    def part_name(self, part: int) -> str:
        if self.kind == "archived":
            return commit.archive_name(self.entry.step, part, self.entry.parts)
        return commit.slot_name(self.entry.slot, part, self.entry.parts)


def checkpoints(storage: Storage) -> list[Found]:
    """Every checkpoint that may be read: the committed ones, newest first, then those given up."""
    whole = commit.read_records(storage)
    newest = records.newest(whole)
    live = set(newest.entries) if newest else set()
    archived = set(commit.archived(storage))
    moved = {entry.sequence for entry in archived}
    found = [Found(entry, "archived", moving=True) for entry in archived - live]
    found += [
        Found(entry, "live", moving=entry in archived)
        if entry in live
        else Found(entry, "given up")
        for entry in records.candidates(whole)
        if entry.sequence not in moved or entry in live
    ]
    found.sort(key=lambda each: each.entry, reverse=True)
    return sorted(found, key=lambda each: each.kind == "given up")


class PartReader:
    """One file of a checkpoint. What it gives has been checked against the hashes in its head."""

    def __init__(self, storage: Storage, name: str) -> None:
        self._file = storage.open(name, direct=True)
        self.name = name
        try:
            self.layout, self.head = self._read_head()
        except BaseException:
            self._file.close()
            raise
        self._hashes = self.layout.hashes(self.head)

    def _read_head(self) -> tuple[SlotLayout, bytes]:
        size = self._file.size()
        length = slot_file.header_length(self._read(0, BLOCK)[:8])
        if length > size:
            raise _damaged(self.name, "its header does not fit the file")
        layout = slot_file.parse(self._read(0, length), size)
        return layout, self._read(0, layout.body)

    def _read(self, offset: int, count: int) -> bytes:
        room = aligned(-(-count // BLOCK) * BLOCK)
        return bytes(room[: min(self._file.pread(room, offset), count)])

    @cached_property
    def _segments(self) -> list[list[Segment]]:
        return segments(self.layout)

    def read_chunk(self, index: int, buffer: memoryview) -> memoryview:
        """The verified bytes of chunk ``index``, read into ``buffer``.

        Raises:
            CheckpointDamaged: they are not what was committed.
            OSError: they cannot be read.
        """
        begin, end = self.layout.chunk(index)
        room = buffer[: end - begin]
        read = self._file.pread(room, begin)
        if read != len(room) or xxhash.xxh3_64_intdigest(room) != self._hashes[index]:
            raise _damaged(self.name, f"chunk {index} of {self.layout.chunks} is not as committed")
        return room

    def document(self) -> bytes:
        """The nesting and the plain values, as JSON."""
        stored = self.layout.document
        pieces = [
            bytes(data[offset : offset + length])
            for index in self._chunks_of(stored.begin, stored.end)
            for data in [self.read_chunk(index, aligned(self.layout.longest_chunk))]
            for source, _, offset, length in self._segments[index]
            if source == len(self.layout.tensors)
        ]
        return b"".join(pieces).rstrip(b" ")

    def _chunks_of(self, begin: int, end: int) -> range:
        first = (begin - self.layout.body) // self.layout.chunk_bytes
        return range(first, -(-(end - self.layout.body) // self.layout.chunk_bytes))

    def verify(self, threads: int = READ_THREADS) -> None:
        """Read everything; raises as :meth:`read_chunk` does."""
        self._each_chunk(lambda index, data: None, threads)

    def read_into(self, targets: Mapping[str, torch.Tensor], threads: int = READ_THREADS) -> None:
        """Fill ``targets``, by name; each has the dtype and the shape it is stored with.

        A target that is contiguous and on the host is written straight into. If reading fails,
        the targets hold bytes of no one checkpoint.

        Raises:
            BadValue: there is no such tensor, or it does not fit; nothing was written.
            CheckpointDamaged: the bytes are not what was committed.
            OSError: they cannot be read.
        """
        for name, target in targets.items():
            self._check_fit(name, target)
        landing = {
            index: _Landing(targets[stored.name])
            for index, stored in enumerate(self.layout.tensors)
            if stored.name in targets
        }

        def scatter(index: int, data: memoryview) -> None:
            address = ctypes.addressof(ctypes.c_char.from_buffer(data))
            for source, source_offset, chunk_offset, length in self._segments[index]:
                if source in landing:
                    place = landing[source].address + source_offset
                    ctypes.memmove(place, address + chunk_offset, length)

        wanted = [
            i for i, chunk in enumerate(self._segments) if any(s[0] in landing for s in chunk)
        ]
        self._each_chunk(scatter, threads, wanted)
        for each in landing.values():
            each.arrive()

    def _check_fit(self, name: str, target: torch.Tensor) -> None:
        stored = self.layout.by_name.get(name)
        if stored is None:
            raise BadValue(f"{self.name} holds no tensor {name!r}; leave it out")
        if (stored.dtype, stored.shape) != (target.dtype, tuple(target.shape)):
            raise BadValue(
                f"{name!r} is stored as {stored.dtype} of shape {stored.shape}; "
                f"give a tensor like that, not {target.dtype} of shape {tuple(target.shape)}"
            )

    def _each_chunk(
        self,
        use: Callable[[int, memoryview], None],
        threads: int,
        wanted: Sequence[int] | None = None,
    ) -> None:
        numbers = range(self.layout.chunks) if wanted is None else wanted

        def work(first: int) -> None:
            buffer = aligned(self.layout.longest_chunk)
            for index in numbers[first::threads]:
                use(index, self.read_chunk(index, buffer))

        with ThreadPoolExecutor(threads, "remora-checkpoint-read") as pool:
            for done in [pool.submit(work, first) for first in range(threads)]:
                done.result()

    def close(self) -> None:
        self._file.close()


class _Landing:
    """Host memory for one tensor: its own where that is possible."""

    def __init__(self, target: torch.Tensor) -> None:
        self._target = target.detach()
        direct = target.device.type == "cpu" and target.is_contiguous()
        empty = torch.empty(target.shape, dtype=target.dtype) if not direct else None
        self._host = self._target if empty is None else empty
        self.address = self._host.data_ptr()

    def arrive(self) -> None:
        if self._host is not self._target:
            self._target.copy_(self._host)


class Reader:
    """A checkpoint, all parts of it, whose heads are those that were committed."""

    def __init__(self, storage: Storage, found: Found) -> None:
        self.found = found
        self.parts: list[PartReader] = []
        *others, last = found.places()
        for names in others:
            with contextlib.suppress(CheckpointDamaged):
                self._open(storage, names)
                return
        self._open(storage, last)

    def _open(self, storage: Storage, names: Sequence[str]) -> None:
        try:
            for name in names:
                self.parts.append(PartReader(storage, name))
            if root_of(part.head for part in self.parts) != self.found.entry.root:
                raise _damaged(names[0], "it is not the checkpoint that was committed")
        except FileNotFoundError as error:
            missing = names[len(self.parts)]
            self.close()
            raise _damaged(missing, "it is missing") from error
        except BaseException:
            self.close()
            raise

    def verify(self) -> None:
        """Read every byte and check it.

        Raises:
            CheckpointDamaged: it is damaged.
            OSError: it cannot be read.
        """
        for part in self.parts:
            part.verify()

    def close(self) -> None:
        for part in self.parts:
            part.close()
        self.parts.clear()

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def whole(
    storage: Storage, found: Sequence[Found], on_damaged: Callable[[Found, Exception], None]
) -> Iterator[Reader]:
    """Readers of those in ``found`` whose heads are whole, in order; the rest is told."""
    for each in found:
        try:
            reader = Reader(storage, each)
        except (CheckpointDamaged, OSError) as error:
            on_damaged(each, error)
            continue
        with reader:
            yield reader


def _damaged(name: str, why: str) -> CheckpointDamaged:
    return CheckpointDamaged(f"{name} is damaged: {why}")
