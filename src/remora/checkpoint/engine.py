"""What goes on beside the training thread: saves on their way, and what becomes of them."""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal, Protocol

from remora.checkpoint.counters import Counters
from remora.checkpoint.folder import Folder, Place
from remora.checkpoint.forked import ForkedWriter
from remora.checkpoint.layout.slot_file import SlotLayout
from remora.checkpoint.planned import Planned
from remora.checkpoint.snapshot import begin_copy
from remora.checkpoint.staging import Arena
from remora.checkpoint.writer import Save, Writer
from remora.core.errors import BadValue, SaveFailed
from remora.core.units import format_seconds

WhenSlow = Literal["skip", "block", "supersede"]
OnError = Literal["warn", "raise"]
Snapshot = Literal["thread", "fork"]


@dataclass(frozen=True)
class Settings:
    """How saves are made; see :class:`~remora.checkpoint.checkpointer.Checkpointer`."""

    in_flight: int
    threads: int
    memory_bytes: int | None
    when_slow: WhenSlow
    on_error: OnError
    snapshot: Snapshot
    before_commit: Callable[[int], None] | None


class Ended(Protocol):
    """Told when a save has ended: its bytes (None if it came to nothing), and two durations."""

    def __call__(self, nbytes: int | None, latency_s: float, copy_s: float) -> None: ...


class Engine:
    """Takes planned states to durable checkpoints.

    Args:
        say: where a line for the user goes.
        ended: told of every save's end, in a thread of ours.
    """

    def __init__(
        self,
        folder: Folder,
        settings: Settings,
        counters: Counters,
        say: Callable[[str], None],
        ended: Ended,
    ) -> None:
        self._folder, self._settings, self._counters = folder, settings, counters
        self._say, self._ended = say, ended
        self._writer: Writer | ForkedWriter | None = None
        self._copying: Save | None = None
        self._under_way: dict[int, tuple[Save, Place, int]] = {}
        self._changed = threading.Condition()
        self._failure: BaseException | None = None
        self._told: set[str] = set()
        self._newest = 0
        """The highest sequence that has been committed."""

    @property
    def busy(self) -> bool:
        """Whether a save is under way."""
        return bool(self._under_way)

    # ------------------------------------------------------------ in the training thread

    def write_with(self, threads: int) -> None:
        """Have so many threads write, from the next writer on."""
        self._settings = replace(self._settings, threads=threads)

    def has_room(self) -> bool:
        """Whether one more may be in flight, made so as ``when_slow`` says."""
        if not self._folder.agree(self._will_have_room):
            self._skip()
            return False
        with self._changed:
            self._changed.wait_for(lambda: len(self._under_way) < self._settings.in_flight)
        return True

    def _will_have_room(self) -> bool:
        with self._changed:
            if len(self._under_way) < self._settings.in_flight:
                return True
            return self._settings.when_slow != "skip" and self._made_way()

    def _skip(self) -> None:
        self._counters.skipped += 1
        if self._counters.skipped == 1:
            took = self._counters.durable_ns
            each = (
                f", and one takes {format_seconds(statistics.median(took) / 1e9)}" if took else ""
            )
            self._say(
                f"asked for more often than storage can: {len(self._under_way)} are on their way"
                f"{each}; those due meanwhile are skipped, and counted"
            )

    def _made_way(self) -> bool:
        """True if waiting will give room: a save is given up, or blocking is what is asked for."""
        if self._settings.when_slow == "block":
            return True
        waiting = [save for save, _, _ in self._under_way.values() if save.untouched]
        for save in waiting[:1]:
            save.given_up = True
        return bool(waiting)

    def submit(self, done: int, planned: Planned, began_ns: int) -> bool:
        """Begin to save ``planned``, the state after ``done`` steps; False if there is no slot."""
        try:
            if planned.new or self._writer is None:
                self._prepare(planned.layout, pinned=planned.on_cuda)
            place = self._folder.begin()
        except OSError as error:
            self._failed(done, error)
            return False
        if place is None or self._writer is None:
            self._skip()
            return False
        save = Save(
            sequence=place.sequence,
            step=done,
            layout=planned.layout,
            segments=planned.segments,
            copy=begin_copy(planned.tensors, planned.document),
            file=place.file,
        )
        with self._changed:
            self._under_way[save.sequence] = save, place, began_ns
        self._copying = save
        self._counters.stall_ns.append(0)
        self._writer.submit(save)
        self._counters.stalled(time.perf_counter_ns() - began_ns)
        return True

    def _prepare(self, layout: SlotLayout, *, pinned: bool) -> None:
        """Slots and staging memory for states of this size."""
        self.wait()
        self._close_writer()
        self._folder.prepare(layout.size)
        if self._settings.snapshot == "fork":
            if pinned:
                raise BadValue("snapshot='fork' is for host memory; on CUDA choose 'thread'")
            self._writer = ForkedWriter(self._finish)
            return
        arena = Arena(self._buffers(layout), layout.chunk_bytes, pinned=pinned)
        self._writer = Writer(arena, self._settings.threads, self._finish)

    def _buffers(self, layout: SlotLayout) -> int:
        """How many staging buffers: two at least, so that a copy and a write go on at once."""
        wanted, memory = layout.chunks * self._settings.in_flight, self._settings.memory_bytes
        if memory is not None:
            wanted = min(wanted, memory // layout.chunk_bytes)
        return max(wanted, 2)

    def wait_copied(self) -> None:
        """Return when the state may be changed again: every optimizer's step waits here."""
        if self._copying is not None:
            began = time.perf_counter_ns()
            self._settle_copy(self._copying)
            self._counters.stalled(time.perf_counter_ns() - began)

    def _settle_copy(self, save: Save) -> None:
        save.copied.wait()
        save.copy.hold_step()
        self._copying = None

    def wait(self) -> None:
        """Return when everything begun is durable, or has failed: no stall, it was asked for."""
        if self._copying is not None:
            self._settle_copy(self._copying)
        with self._changed:
            self._changed.wait_for(lambda: not self._under_way)

    def raise_failure(self) -> None:
        """Raise what a thread of ours has met, once.

        Raises:
            SaveFailed: storage failed, and ``on_error`` is ``"raise"``.
        """
        error, self._failure = self._failure, None
        if isinstance(error, OSError):
            raise SaveFailed(
                f"a checkpoint could not be written: {_reason(error)}; {self._last()}"
            ) from error
        if error is not None:
            raise error

    def close(self) -> None:
        """Finish what was begun; then end the threads and let go of the folder."""
        self.wait()
        self._close_writer()
        self._folder.close()

    def _close_writer(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    # ------------------------------------------------------------ in a thread of ours

    def _finish(self, save: Save) -> None:
        _, place, began = self._under_way[save.sequence]
        try:
            committed = self._commit(save, place)
        except BaseException as error:  # whatever it is, training must not wait for this save
            self._folder.give_back(place)
            self._failed(save.step, error)
            committed = False
        self._count(save, committed, time.perf_counter_ns() - began)
        with self._changed:
            del self._under_way[save.sequence]
            self._changed.notify_all()

    def _commit(self, save: Save, place: Place) -> bool:
        if save.error is not None:
            raise save.error
        if save.given_up:
            self._folder.give_back(place)
            self._counters.superseded += 1
            return False
        if self._settings.before_commit is not None:
            self._settings.before_commit(save.step)
        committed = self._folder.commit(place, save.step, save.layout, save.hashes)
        self._counters.superseded += not committed
        return committed

    def _count(self, save: Save, committed: bool, took_ns: int) -> None:
        if committed:
            self._counters.committed += 1
            self._counters.bytes_written += save.layout.state_bytes
            self._counters.durable_ns.append(took_ns)
            if save.sequence > self._newest:  # two in flight may finish in either order
                self._newest, self._counters.last_step = save.sequence, save.step
        nbytes = save.layout.state_bytes if committed else None
        self._ended(nbytes, took_ns / 1e9, save.copy_s)

    def _failed(self, step: int, error: BaseException) -> None:
        self._counters.failed += 1
        if self._settings.on_error == "raise" or not isinstance(error, OSError):
            self._failure = error
            return
        reason = _reason(error)
        if reason not in self._told:  # once for each reason: storage may fail at every step
            self._told.add(reason)
            self._say(f"step {step:,} was not saved: {reason}; {self._last()}; training goes on")

    def _last(self) -> str:
        live = self._folder.live
        return f"the last whole one is of step {live[0].step:,}" if live else "there is none yet"


def _reason(error: OSError) -> str:
    return error.strerror or str(error)
