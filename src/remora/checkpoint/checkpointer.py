"""The checkpointer: durable checkpoints of a training job, written beside the training thread."""

from __future__ import annotations

import atexit
import contextlib
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, Self

from remora.checkpoint.arguments import CHUNK_BYTES, check
from remora.checkpoint.counters import Counters
from remora.checkpoint.engine import Engine, OnError, Settings, Snapshot, WhenSlow
from remora.checkpoint.folder import Folder
from remora.checkpoint.pace import Fixed, Measured, Pace
from remora.checkpoint.planned import Plans
from remora.checkpoint.policy.probe import pick
from remora.checkpoint.policy.records import Wanted
from remora.checkpoint.sharded.coordinator import Coordinator, coordinator
from remora.checkpoint.sharded.folders import open_folder
from remora.checkpoint.sharded.shards import localised
from remora.checkpoint.state.known import KnownDict
from remora.checkpoint.state.parts import Parts
from remora.checkpoint.state.tree import flatten
from remora.checkpoint.storage.contract import Storage
from remora.checkpoint.storage.local import LocalStorage
from remora.checkpoint.tiers.contract import KEEP
from remora.checkpoint.tiers.elsewhere import Elsewhere
from remora.checkpoint.tuning import tune, tuned_words
from remora.core.errors import BadValue, CheckpointUnusable
from remora.core.saying import say
from remora.tap.job import Job


class Checkpointer:
    """Persists a training job's whole state while the job goes on.

    After PCcheck (ASPLOS'25, section 3): several checkpoints in flight, each in a slot of its own,
    copied in chunks through bounded memory; a commit only once every byte is durable. The state
    is copied while the next forward and backward run; the optimizer's next step waits if the copy
    is not done, and that wait is the stall. Whatever else changes the state (an average of the
    weights, a clamp) must have done so when :meth:`step` is called: call it last in the iteration.

    Args:
        directory: the checkpoint folder, made if need be. One job at a time.
        every: save when that many more steps are done; ``"auto"`` measures and chooses.
        max_overhead: for ``"auto"``: the largest share of training time saving may cost.
        in_flight: how many checkpoints may be on their way to storage at once. Two hide storage's
            latency; more were never seen to help.
        keep: how many committed ones stay; at least 2, so that one may be damaged.
        keep_every: checkpoints whose step is a multiple of this stay for good.
        threads: how many threads write. One reaches what direct I/O gives on the disks measured;
            ``"auto"`` tries 1, 2 and 4 out on this one before the first save, with several sizes
            of chunk, for about two seconds.
        chunk_bytes: bytes copied, hashed and written at once; a multiple of 4096.
        memory_bytes: staging memory; by default that of ``in_flight`` states. A state larger than
            it still goes through, at the speed of storage.
        when_slow: what to do when one is due and ``in_flight`` are on their way: ``"skip"`` it,
            ``"block"`` training until there is room, or let it ``"supersede"`` one whose writing
            has not begun.
        on_error: when storage fails, ``"warn"`` once and go on, or ``"raise"`` from the next call.
        snapshot: ``"thread"`` copies into staging memory; ``"fork"`` lets a child process write
            from the memory it shares with this one.
        mtbf_s: for ``"auto"``: mean time between failures, in seconds.
        second: a URL, or several, that the newest committed checkpoint is copied to beside
            training: ``"s3://bucket/run"``, ``"peer://host:7718/run"`` or whatever fsspec opens.
        second_keep: how many copies stay at each; with one, damage to it would leave nothing.
        second_bytes_s: the most bytes a second to each, from 1,000,000; None for no limit.
        sharded: whether every rank of a torch.distributed job saves a part; by default wherever
            there is more than one rank. Every rank must then make a checkpointer, with the same
            arguments, and call it at the same steps. False for a job whose rank 0 saves alone.
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
        threads: int | Literal["auto"] = 1,
        chunk_bytes: int = CHUNK_BYTES,
        memory_bytes: int | None = None,
        when_slow: WhenSlow = "skip",
        on_error: OnError = "warn",
        snapshot: Snapshot = "thread",
        mtbf_s: float = Wanted.mtbf_s,
        second: str | Sequence[str] | None = None,
        second_keep: int = KEEP,
        second_bytes_s: float | None = None,
        sharded: bool | None = None,
        storage: Storage | None = None,
        before_commit: Callable[[int], None] | None = None,
    ) -> None:
        check(
            every=every, threads=threads, chunk_bytes=chunk_bytes, when_slow=when_slow,
            on_error=on_error, snapshot=snapshot,
        )  # fmt: skip
        wanted = Wanted(
            max_overhead=max_overhead,
            mtbf_s=mtbf_s,
            memory_bytes=memory_bytes,
            in_flight=in_flight,
        )
        self.directory = Path(directory)
        self.counters = Counters()
        self._measures = every == "auto"
        self._pace: Pace = Measured(wanted, _say) if every == "auto" else Fixed(every)
        self._ranks = coordinator(sharded)
        self.elsewhere = Elsewhere(
            second, keep=second_keep, bytes_s=second_bytes_s, say=_say, ranks=self._ranks
        )
        self._storage, folder = _open(
            self.directory, storage, self._ranks,
            keep=keep, in_flight=in_flight, keep_every=keep_every, spare=self.elsewhere.count,
        )  # fmt: skip
        self.elsewhere.attach(folder)
        self._plans = Plans(chunk_bytes)
        settings = Settings(
            in_flight,
            1 if threads == "auto" else threads,
            memory_bytes,
            when_slow,
            on_error,
            snapshot,
            before_commit,
        )
        self._engine = Engine(folder, settings, self.counters, _say, self._pace.ended)
        self._untuned = threads == "auto"
        self._parts: Parts | None = None
        self._known: dict[str, KnownDict] = {}
        self._was_busy, self._stalled_ns = False, 0
        self._job = Job(strict=True)
        self._job.steps.subscribe(before=lambda _: self._engine.wait_copied())
        self._owner = os.getpid()
        self._closed = False
        atexit.register(self.close)

    # ------------------------------------------------------------ what is covered

    def track(self, **parts: Any) -> None:
        """Name what a checkpoint covers: ``model=…, optimizer=…, scheduler=…, loader=…``.

        Raises:
            BadValue: a part that has no state to save.
        """
        if self._parts is not None:
            self._parts.close()
        self._parts, self._known = Parts(**parts), {}

    def restore(
        self,
        step: int | None = None,
        *,
        strict: bool = True,
        source: str | None = None,
        **parts: Any,
    ) -> int | None:
        """Put back the newest whole checkpoint, or that of ``step``, and track ``parts``.

        A damaged checkpoint is passed over for an older one, and said so. Nothing is unpickled.

        Args:
            strict: refuse a checkpoint whose keys or shapes are not these parts'.
            source: ``"local"`` for the folder alone, ``"second"`` for its copies alone, or a URL
                to restore from; by default the folder, and where none in it is whole, its copies.

        Returns:
            How many steps it had done, which is the index of the step to go on with; None where
            there is no checkpoint at all.

        Raises:
            CheckpointUnusable: there are checkpoints, but none whole, or none of that step.
            StateMismatch: it is not of these parts: keys or shapes differ (``strict``).
        """
        if parts:
            self.track(**parts)
        return self.elsewhere.restore(self._storage, self._tracked(), step, source, strict=strict)

    def resume(self, step: int | None = None) -> int | None:
        """Restore into what is tracked, and say on stderr where the job goes on (rank 0 says it).

        Returns and raises what :meth:`restore` does.
        """
        found = self.restore(step)
        if found is not None and (self._ranks is None or self._ranks.leads):
            _say(f"resuming at step {found:,} from {self.directory}")
        return found

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
        busy = self._engine.busy
        due = self._pace.due(
            step + 1, busy=busy or self._was_busy, stall_s=self._stalled_since() / 1e9
        )
        self._was_busy = busy
        self._engine.raise_failure()
        if self._ranks is not None and self._measures:
            due = self._ranks.announce(due)
        return due and self.save(step + 1)

    def _stalled_since(self) -> int:
        """Nanoseconds of waiting since this was last asked."""
        before, self._stalled_ns = self._stalled_ns, self.counters.stalled_ns
        return self._stalled_ns - before

    def save(self, done: int) -> bool:
        """Begin a checkpoint of the state after ``done`` steps, whatever ``every`` says.

        Returns:
            False if storage is too far behind and ``when_slow`` is ``"skip"``.

        Raises:
            SaveFailed: storage failed, and ``on_error`` is ``"raise"``.
            StateUnsupported: a part's state holds what cannot be saved.
            CheckpointUnusable: there is not enough room for the slots.
        """
        if self._untuned:
            self._tune()
        began_ns = time.perf_counter_ns()
        self._engine.raise_failure()
        self._engine.wait_copied()
        if not self._engine.has_room():
            return False
        parts = self._tracked()
        flat = flatten(self._captured(parts), self._known)
        planned = self._plans.of(flat, parts.volatile(flat))
        self._pace.began()
        if not self._engine.submit(done, planned, began_ns):
            self._pace.ended(None, 0.0, 0.0)
            return False
        self._was_busy = True
        return True

    def _tune(self) -> None:
        """Try out how to write here. Storage that fails now fails the save too, which says so."""
        self._untuned = False
        with contextlib.suppress(OSError):
            probed = tune(self._storage, f"slot-probe-{os.getpid()}")
            best = pick(probed)
            self._engine.write_with(best.threads)
            self._plans = Plans(best.chunk_bytes)
            _say(tuned_words(probed, best))

    def _captured(self, parts: Parts) -> dict[str, Any]:
        state = parts.capture()
        if self._ranks is not None:
            return localised(state, self._ranks.rank, self._ranks.world, parts.shared)
        return localised(state, 0, 1, parts.shared) if parts.distributed else state

    def agreed_end(self, done: int) -> int | None:
        """After how many steps to save and leave, for a job that has been told to end.

        With several ranks each must ask after every step from then on, and gets None until all
        have been told; it is then the same number for all.
        """
        return done if self._ranks is None else self._ranks.agreed_end(done)

    def wait_copied(self) -> None:
        """Return when the state may be changed again. Optimizers' steps wait by themselves."""
        self._engine.wait_copied()

    def wait(self) -> None:
        """Return when everything begun is durable.

        Raises:
            SaveFailed: storage failed, and ``on_error`` is ``"raise"``.
        """
        self._engine.wait()
        self._engine.raise_failure()

    # ------------------------------------------------------------ the end

    def close(self) -> None:
        """Finish what was begun and let go of the folder. Calling it twice does no harm."""
        if self._closed or self._owner != os.getpid():
            return  # in a forked child the threads and the lock are its parent's
        self._closed = True
        atexit.unregister(self.close)
        self._job.detach_all()
        self._engine.wait()
        self.elsewhere.close()
        self._engine.close()
        if self._parts is not None:
            self._parts.close()
        self._engine.raise_failure()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _say(line: str) -> None:
    say(f"remora: checkpoint: {line}")


def _open(
    directory: Path, storage: Storage | None, ranks: Coordinator | None, **keeping: int | None
) -> tuple[Storage, Folder]:
    try:
        place = storage or LocalStorage(directory)
        return place, open_folder(place, ranks, **keeping)
    except OSError as error:
        raise CheckpointUnusable(
            f"checkpoint folder {str(directory)!r} cannot be written: "
            f"{error.strerror or error}; choose a folder that can"
        ) from error
