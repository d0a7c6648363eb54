"""From tensors to durable bytes, beside the training thread: one thread copies, ``threads`` write.

Every chunk is taken through the same line: a buffer from the arena, the copy, the hash, the write.
When all chunks of a save are written, the thread that wrote the last one finishes it. Saves pass
in the order in which they came; with several in flight, the next one's copy overlaps the writing
of the one before.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import xxhash

from remora.checkpoint.layout.chunks import Segment
from remora.checkpoint.layout.slot_file import SlotLayout
from remora.checkpoint.snapshot import Arrival, Copy
from remora.checkpoint.staging import Arena, Buffer
from remora.checkpoint.storage.contract import StorageFile


@dataclass
class Save:
    """One checkpoint on its way to disk. Its ``copied`` and ``done`` are set whatever happens."""

    sequence: int
    step: int
    layout: SlotLayout
    segments: list[list[Segment]]
    copy: Copy
    file: StorageFile
    copied: threading.Event = field(default_factory=threading.Event)
    """The training thread may change the state again (on CUDA: after ``copy.hold_step()``)."""
    done: threading.Event = field(default_factory=threading.Event)
    """Committed, failed or given up; what is done has been copied."""
    copy_s: float = 0.0
    """How long copying took."""
    error: BaseException | None = None
    given_up: bool = False
    """A newer one is to take its place, or the folder is being closed."""

    def __post_init__(self) -> None:
        self.hashes = [0] * self.layout.chunks
        self._unwritten = self.layout.chunks
        self._guard = threading.Lock()

    @property
    def untouched(self) -> bool:
        """Nothing of it has been written yet."""
        return self._unwritten == self.layout.chunks

    @property
    def lost(self) -> bool:
        return self.given_up or self.error is not None

    def written(self) -> bool:
        """One more chunk is written or given up; True if it was the last."""
        with self._guard:
            self._unwritten -= 1
            return self._unwritten == 0

    def fail(self, error: BaseException) -> None:
        """Keep the first error."""
        if self.error is None:
            self.error = error


@dataclass(frozen=True)
class _Chunk:
    save: Save
    index: int
    buffer: Buffer | None
    arrival: Arrival | None


Finish = Callable[[Save], None]


class Writer:
    """The threads. ``finish`` is called, in one of them, when a save's every chunk is through."""

    def __init__(self, arena: Arena, threads: int, finish: Finish) -> None:
        self._arena, self._finish = arena, finish
        self._saves: queue.SimpleQueue[Save | None] = queue.SimpleQueue()
        self._chunks: queue.SimpleQueue[_Chunk | None] = queue.SimpleQueue()
        self._copier = _start("copy", self._copy_all)
        self._writers = [_start(f"write-{n}", self._write_all) for n in range(threads)]

    def submit(self, save: Save) -> None:
        """Begin ``save``. Its ``copied`` is set when its tensors may change again."""
        self._saves.put(save)

    def close(self) -> None:
        """End the threads, once everything submitted is through."""
        self._saves.put(None)
        self._copier.join()
        for _ in self._writers:
            self._chunks.put(None)
        for thread in self._writers:
            thread.join()
        self._arena.close()

    # ------------------------------------------------------------ copying

    def _copy_all(self) -> None:
        while (save := self._saves.get()) is not None:
            last, began = None, time.perf_counter()
            for index in range(save.layout.chunks):
                if last is not None:
                    self._chunks.put(last)
                last = self._copied(save, index)
            self._issued(save, began)
            if last is None:
                self._end(save)
            else:
                self._chunks.put(last)  # not sooner: what is done has been copied
            del save, last  # and with them the tensors they hold

    def _issued(self, save: Save, began: float) -> None:
        try:
            save.copy.issued()
        except BaseException as error:
            save.fail(error)
        save.copy_s = time.perf_counter() - began
        save.copied.set()

    def _copied(self, save: Save, index: int) -> _Chunk:
        buffer = None if save.lost else self._arena.take()
        if buffer is None:
            return _Chunk(save, index, None, None)
        try:
            arrival = save.copy.fill(buffer, save.segments[index])
            if arrival is None:  # it is in the cache now, and the writers have only to write
                _hash(save, index, buffer)
            return _Chunk(save, index, buffer, arrival)
        except BaseException as error:  # the training thread waits for us: it must hear of all
            save.fail(error)
            return _Chunk(save, index, buffer, None)

    # ------------------------------------------------------------ writing

    def _write_all(self) -> None:
        while (chunk := self._chunks.get()) is not None:
            try:
                if chunk.buffer is not None and chunk.arrival is not None:
                    chunk.arrival.synchronize()  # also of a save given up: the buffer goes back
                    _hash(chunk.save, chunk.index, chunk.buffer)
                if chunk.buffer is not None and not chunk.save.lost:
                    _write(chunk.save, chunk.index, chunk.buffer)
            except BaseException as error:
                chunk.save.fail(error)
            finally:
                if chunk.buffer is not None:
                    self._arena.give_back(chunk.buffer)
            if chunk.save.written():
                self._end(chunk.save)
            del chunk

    def _end(self, save: Save) -> None:
        try:
            self._finish(save)
        except BaseException as error:  # it fails this save: the thread has others to write
            save.fail(error)
        finally:
            save.done.set()


def _hash(save: Save, index: int, buffer: Buffer) -> None:
    begin, end = save.layout.chunk(index)
    save.hashes[index] = xxhash.xxh3_64_intdigest(buffer.view[: end - begin])


def _write(save: Save, index: int, buffer: Buffer) -> None:
    begin, end = save.layout.chunk(index)
    save.file.pwrite(buffer.view[: end - begin], begin)


def _start(what: str, run: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=run, name=f"remora-checkpoint-{what}", daemon=True)
    thread.start()
    return thread
