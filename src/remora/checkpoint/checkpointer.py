"""The checkpointer: durable checkpoints of a training job, written beside the training thread."""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import torch

from remora.checkpoint.counters import Counters
from remora.checkpoint.folder import Folder, Place
from remora.checkpoint.layout.slot_file import SlotLayout
from remora.checkpoint.planned import Planned, Plans
from remora.checkpoint.restore import restore
from remora.checkpoint.snapshot import begin_copy
from remora.checkpoint.staging import Arena
from remora.checkpoint.state.parts import Parts
from remora.checkpoint.state.tree import flatten
from remora.checkpoint.storage.contract import Storage
from remora.checkpoint.storage.local import LocalStorage
from remora.checkpoint.writer import Save, Writer
from remora.core.errors import BadValue, CheckpointUnusable, SaveFailed
from remora.tap.job import Job

WhenSlow = Literal["skip", "block", "supersede"]
OnError = Literal["warn", "raise"]
CHUNK_BYTES = 8 * 2**20
"""Large enough for full speed with one thread, small enough that a bounded buffer holds many."""


class Checkpointer:
    """Persists a training job's whole state while the job goes on.

    After PCcheck (ASPLOS'25, section 3): several checkpoints in flight, each in a slot of its own,
    copied in chunks through bounded memory; a commit only once every byte is durable. The state
    is copied while the next forward and backward run; the optimizer's next step waits if the copy
    is not done, and that wait is the stall. What changes in between without an optimizer must be
    changed before :meth:`step` is called: call it last in the iteration.

    Args:
        directory: the checkpoint folder, made if need be. One job at a time.
        every: save when that many more steps are done; ``"auto"`` measures and chooses.
        max_overhead: for ``"auto"``: the largest share of training time saving may cost.
        in_flight: how many checkpoints may be on their way to storage at once.
        keep: how many committed ones stay; at least 2.
        keep_every: checkpoints whose step is a multiple of this stay for good.
        threads: how many threads write.
        chunk_bytes: bytes copied, hashed and written at once; a multiple of 4096.
        memory_bytes: staging memory; by default that of ``in_flight`` states. A state larger than
            it still goes through, at the speed of storage.
        when_slow: what to do when one is due and ``in_flight`` are on their way: ``"skip"`` it,
            ``"block"`` training until there is room, or let it ``"supersede"`` one whose writing
            has not begun.
        on_error: when storage fails, ``"warn"`` once and go on, or ``"raise"`` from the next call.
        storage: where to write instead of ``directory``.
        before_commit: called with the step when all of its bytes are durable, before it is
            acknowledged; an OSError from it fails the save.

    Raises:
        BadValue: an argument is out of its range.
        FolderInUse: another job writes to the folder.
        CheckpointUnusable: the folder cannot be written.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        *,
        every: int | Literal["auto"] = "auto",
        max_overhead: float = 0.02,
        in_flight: int = 2,
        keep: int = 3,
        keep_every: int | None = None,
        threads: int = 1,
        chunk_bytes: int = CHUNK_BYTES,
        memory_bytes: int | None = None,
        when_slow: WhenSlow = "skip",
        on_error: OnError = "warn",
        storage: Storage | None = None,
        before_commit: Callable[[int], None] | None = None,
    ) -> None:
        _check(every, threads, chunk_bytes, when_slow, on_error)
        self.directory = Path(directory)
        self.counters = Counters()
        self._every = every
        self._threads, self._chunk_bytes, self._memory = threads, chunk_bytes, memory_bytes
        self._in_flight = in_flight
        self._when_slow, self._on_error = when_slow, on_error
        self._before_commit = before_commit
        self._folder = _open(self.directory, storage, keep, in_flight, keep_every)
        self._parts: Parts | None = None
        self._plans = Plans(chunk_bytes)
        self._writer: Writer | None = None
        self._copying: Save | None = None
        self._saves: list[Save] = []
        self._began_ns: dict[int, int] = {}
        self._places: dict[int, Place] = {}
        self._room = threading.Condition()
        self._failure: BaseException | None = None
        self._told: set[str] = set()
        self._job = Job(strict=True)
        self._job.steps.subscribe(before=lambda _: self.wait_copied())
        self._pid = os.getpid()
        atexit.register(self.close)

    # ------------------------------------------------------------ what is covered

    def track(self, **parts: Any) -> None:
        """Name what a checkpoint covers: ``model=…, optimizer=…, scheduler=…, loader=…``.

        Raises:
            BadValue: a part that has no state to save.
        """
        if self._parts is not None:
            self._parts.close()
        self._parts = Parts(**parts)

    def restore(self, step: int | None = None, *, strict: bool = True, **parts: Any) -> int | None:
        """Put back the newest whole checkpoint, or that of ``step``, and track ``parts``.

        A damaged checkpoint is passed over for an older one, and said so. Nothing is unpickled.

        Returns:
            How many steps it had done, which is the index of the step to go on with; None where
            there is no checkpoint at all.

        Raises:
            CheckpointUnusable: there are checkpoints, but none whole, or none of that step.
            StateMismatch: it is not of these parts: keys or shapes differ (``strict``).
        """
        if parts:
            self.track(**parts)
        return restore(self._folder.storage, self._tracked(), step, strict=strict, say=self._say)

    def _tracked(self) -> Parts:
        if self._parts is None:
            raise BadValue(
                "nothing to save is named; call restore(model=…, optimizer=…) or track(…) first"
            )
        return self._parts

    # ------------------------------------------------------------ saving

    def step(self, step: int) -> bool:
        """The step of index ``step``, from 0, is done: save if one is due.

        Returns:
            Whether a checkpoint was begun.
        """
        self._raise_failure()
        done = step + 1
        return done % self._interval() == 0 and self.save(done)

    def _interval(self) -> int:
        return 1 if self._every == "auto" else self._every

    def save(self, done: int) -> bool:
        """Begin a checkpoint of the state after ``done`` steps, whatever ``every`` says.

        Returns:
            False if storage is too far behind and ``when_slow`` is ``"skip"``.

        Raises:
            SaveFailed: storage failed, and ``on_error`` is ``"raise"``.
            StateUnsupported: a part's state holds what cannot be saved.
        """
        began = time.perf_counter_ns()
        self._raise_failure()
        self.wait_copied()
        if not self._has_room():
            self.counters.skipped += 1
            return False
        planned = self._plan()
        try:
            place = self._folder.begin()
        except OSError as error:
            self._failed(done, error)
            return False
        if place is None:
            self.counters.skipped += 1
            return False
        self._submit(done, place, planned, began)
        return True

    def _submit(self, done: int, place: Place, planned: Planned, began: int) -> None:
        save = Save(
            sequence=place.sequence,
            step=done,
            slot=place.slot,
            layout=planned.layout,
            segments=planned.segments,
            copy=begin_copy(planned.tensors, planned.document),
            file=place.file,
        )
        self._places[save.sequence], self._began_ns[save.sequence] = place, began
        with self._room:
            self._saves.append(save)
        self._copying = save
        if self._writer is None:
            raise AssertionError("the writer is started with the plan")
        self._writer.submit(save)
        self.counters.stall_ns.append(time.perf_counter_ns() - began)

    def _plan(self) -> Planned:
        """Capture the state as it is, and where it goes. The first time, make ready for it."""
        parts = self._tracked()
        flat = flatten(parts.capture())
        planned = self._plans.of(flat, parts.volatile(flat))
        if planned.new:
            self._prepare(planned.layout)
        return planned

    def _prepare(self, layout: SlotLayout) -> None:
        """Slots and staging memory for states of this size."""
        self.wait()
        self._folder.prepare(layout.size)
        if self._writer is not None:
            self._writer.close()
        count = _buffers(layout, self._in_flight, self._memory)
        pinned = torch.cuda.is_available() and self._tracked().on_cuda
        arena = Arena(count, layout.chunk_bytes, pinned=pinned)
        self._writer = Writer(arena, self._threads, self._finish)

    def _has_room(self) -> bool:
        """Whether one more may be in flight, made so as ``when_slow`` says."""
        with self._room:
            if len(self._saves) < self._in_flight:
                return True
            if self._when_slow == "skip":
                return False
            if self._when_slow == "supersede":
                waiting = next((save for save in self._saves if save.untouched), None)
                if waiting is None:
                    return False
                waiting.given_up = True
            self._room.wait_for(lambda: len(self._saves) < self._in_flight)
            return True

    # ------------------------------------------------------------ waiting

    def wait_copied(self) -> None:
        """Return when the state may be changed again: every optimizer's step waits here."""
        save = self._copying
        if save is None:
            return
        began = time.perf_counter_ns()
        save.copied.wait()
        save.copy.hold_step()
        self._copying = None
        self.counters.stall_ns[-1] += time.perf_counter_ns() - began

    def wait(self) -> None:
        """Return when everything begun is durable, or has failed."""
        self.wait_copied()
        with self._room:
            self._room.wait_for(lambda: not self._saves)
        self._raise_failure()

    # ------------------------------------------------------------ finishing, in a writer's thread

    def _finish(self, save: Save) -> None:
        place = self._places.pop(save.sequence)
        began = self._began_ns.pop(save.sequence)
        try:
            self._commit(save, place, began)
        except BaseException as error:  # whatever it is, training must not wait for this save
            self._folder.give_back(place)
            self._failed(save.step, error)
        finally:
            with self._room:
                self._saves.remove(save)
                self._room.notify_all()

    def _commit(self, save: Save, place: Place, began: int) -> None:
        if save.error is not None:
            raise save.error
        if save.given_up:
            self._folder.give_back(place)
            self.counters.superseded += 1
            return
        if self._before_commit is not None:
            self._before_commit(save.step)
        if not self._folder.commit(place, save.step, save.layout, save.hashes):
            self.counters.superseded += 1
            return
        self.counters.committed += 1
        self.counters.bytes_written += save.layout.state_bytes
        self.counters.durable_ns.append(time.perf_counter_ns() - began)
        self.counters.last_step = save.step

    def _failed(self, step: int, error: BaseException) -> None:
        self.counters.failed += 1
        if self._on_error == "raise" or not isinstance(error, OSError):
            self._failure = error
            return
        reason = error.strerror or str(error)
        if reason not in self._told:  # once for each reason: storage may fail at every step
            self._told.add(reason)
            last = self.counters.last_step
            kept = f"the last whole one is of step {last:,}" if last else "there is none yet"
            self._say(f"step {step:,} was not saved: {reason}; {kept}, and training goes on")

    def _raise_failure(self) -> None:
        error, self._failure = self._failure, None
        if error is None:
            return
        if isinstance(error, OSError):
            raise SaveFailed(
                f"a checkpoint could not be written: {error.strerror or error}; "
                f"the last whole one is of step {self.counters.last_step}"
            ) from error
        raise error

    def _say(self, line: str) -> None:
        if sys.stderr is not None:
            with contextlib.suppress(OSError, ValueError):  # closed, or nobody reads it any more
                sys.stderr.write(f"remora: checkpoint: {line}\n")
                sys.stderr.flush()

    # ------------------------------------------------------------ the end

    def close(self) -> None:
        """Finish what was begun and let go of the folder. Calling it twice does no harm."""
        if self._pid != os.getpid():
            return  # a forked child: the threads and the lock are its parent's
        atexit.unregister(self.close)
        self._job.detach_all()
        try:
            self.wait()
        finally:
            if self._writer is not None:
                self._writer.close()
                self._writer = None
            if self._parts is not None:
                self._parts.close()
                self._parts = None
            self._folder.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.close()


def _open(
    directory: Path, storage: Storage | None, keep: int, in_flight: int, keep_every: int | None
) -> Folder:
    try:
        place = storage or LocalStorage(directory)
        return Folder(place, keep=keep, in_flight=in_flight, keep_every=keep_every)
    except OSError as error:
        raise CheckpointUnusable(
            f"checkpoint folder {str(directory)!r} cannot be written: "
            f"{error.strerror or error}; choose a folder that can"
        ) from error


def _buffers(layout: SlotLayout, in_flight: int, memory_bytes: int | None) -> int:
    """How many staging buffers: two at least, so that a copy and a write go on at once."""
    wanted = layout.chunks * in_flight
    if memory_bytes is not None:
        wanted = min(wanted, memory_bytes // layout.chunk_bytes)
    return max(wanted, 2)


def _check(every: int | str, threads: int, chunk_bytes: int, when_slow: str, on_error: str) -> None:
    if every != "auto" and (isinstance(every, str) or every < 1):
        raise BadValue(f"every={every!r}: choose a number of steps from 1, or 'auto'")
    if threads < 1:
        raise BadValue(f"threads={threads}: choose 1 or more")
    if chunk_bytes < 4096 or chunk_bytes % 4096:
        raise BadValue(
            f"chunk_bytes={chunk_bytes}: choose a multiple of 4096, such as {CHUNK_BYTES}"
        )
    _one_of("when_slow", when_slow, ("skip", "block", "supersede"))
    _one_of("on_error", on_error, ("warn", "raise"))


def _one_of(name: str, value: str, valid: tuple[str, ...]) -> None:
    if value not in valid:
        raise BadValue(f"{name}={value!r}: choose one of {', '.join(valid)}")
