"""The checkpoint service: rides along with an unmodified script, and resumes it.

A first run records (:mod:`.record`) and saves at the points between iterations (:mod:`.points`). A
run that finds a checkpoint replays (:mod:`.replay`) up to the point at which it was made, is given
back its state there, and goes on recording. torch is left alone until the script imports it.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, TextIO

from remora.checkpoint.ride import resumption
from remora.checkpoint.ride.journal import JOURNAL_VERSION, Begun, Ended, Journal, Point
from remora.checkpoint.ride.resumption import Names, Resumption
from remora.checkpoint.ride.signals import EXIT_CODE, Notice
from remora.checkpoint.storage.local import LocalStorage
from remora.core.errors import JobEnded, UserError
from remora.core.units import format_seconds
from remora.tap.imports import ImportWatch
from remora.tap.service import Service
from remora.tap.steps import Step

if TYPE_CHECKING:
    from remora.checkpoint.ride.points import Iterations, NextForward
    from remora.checkpoint.ride.record import Recorder
    from remora.checkpoint.ride.replay import Replay
    from remora.checkpoint.ride.script_state import ScriptState
    from remora.tap.job import Job


class Saver(Protocol):
    """What the service asks of a checkpointer; :class:`remora.Checkpointer` is one."""

    def track(self, **parts: Any) -> None: ...
    def restore(self, step: int | None = None) -> int | None: ...
    def step(self, step: int) -> bool: ...
    def save(self, done: int) -> bool: ...
    def wait(self) -> None: ...
    def close(self) -> None: ...


MakeSaver = Callable[[Callable[[int], None]], Saver]
"""Makes one that calls what it is given with a step before it commits that step."""


class CheckpointService(Service):
    """Saves an unmodified job's whole state as it goes, and resumes it where it stopped.

    Args:
        directory: the checkpoint folder, made if need be.
        every: steps from one checkpoint to the next; ``"auto"`` measures and chooses.
        keep: committed checkpoints that stay; at least 2.
        max_overhead: for ``"auto"``: the largest share of training time saving may cost.
        fresh: start over; what is in the folder stays until the first checkpoint is committed.
        command: the script's name and its arguments.
        stream: where lines for the user go; ``sys.stderr`` as it is then.
        make_saver: what saves instead of a :class:`remora.Checkpointer` on ``directory``.

    Raises:
        BadValue: an argument is out of its range.
    """

    name: ClassVar[str] = "checkpoint"

    def __init__(
        self,
        directory: Path,
        *,
        every: int | Literal["auto"] = "auto",
        keep: int = 3,
        max_overhead: float = 0.02,
        fresh: bool = False,
        command: Sequence[str] = ("",),
        stream: TextIO | None = None,
        make_saver: MakeSaver | None = None,
    ) -> None:
        self._directory = directory.absolute()  # the script may change folder
        self._every, self._keep, self._max_overhead = every, keep, max_overhead
        self._fresh, self._command, self._stream = fresh, command, stream
        self._make_saver = make_saver or self._checkpointer
        self._job: Job | None = None

    # ------------------------------------------------------------ beginning

    def attach(self, job: Job) -> None:
        self._job = job
        self._storage: LocalStorage = resumption.open_folder(self._directory, fresh=self._fresh)
        self._names = Names.of_rank(_number("RANK", 0), _number("WORLD_SIZE", 1))
        self._journal: Journal | None = None
        self._saver: Saver | None = None
        self._recorder: Recorder | None = None
        self._replay: Replay | None = None
        self._resumption: Resumption | None = None
        self._notice = Notice()
        self._last_error = getattr(sys, "last_value", None)
        self._last_saved = 0
        self._optimizers: weakref.WeakSet[Any] = weakref.WeakSet()
        self._alone = False
        self._cleared = self._cleared_last = False
        self._random: dict[str, bytes] = {}
        self._point = Point(0, 0, "forward")
        self._frame: FrameType | None = None
        self._stopping = False
        self._imports = ImportWatch()
        self._stop_waiting = self._imports.when_imported("torch", self._torch_is_here)

    def _torch_is_here(self) -> None:
        """The script has imported torch; nothing of it has been used yet."""
        from remora.checkpoint.ride.points import Iterations, NextForward
        from remora.checkpoint.ride.script_state import ScriptState
        from remora.checkpoint.ride.where import learn_torch

        if (job := self._job) is None:
            return
        learn_torch()
        self._iterations: Iterations = Iterations()
        self._state: ScriptState = ScriptState(self._begin_capture, self._say)
        self._next_forward: NextForward = NextForward(job, self._on_forward)
        job.calls.watch("torch.optim.optimizer.Optimizer.zero_grad", before=self._on_zero_grad)
        job.calls.watch("torch.nn.Module.zero_grad", before=self._on_zero_grad)
        self._steps = job.steps.subscribe(after=self._after_step, before=self._before_step)
        with self._ending_the_job():
            self._saver = self._make_saver(self._before_commit)
            self._look_for_what_to_resume()
        _stay_with_parent(self)
        self._notice.install()

    def _checkpointer(self, before_commit: Callable[[int], None]) -> Saver:
        from remora.checkpoint.checkpointer import Checkpointer

        return Checkpointer(
            self._directory, every=self._every, keep=self._keep, max_overhead=self._max_overhead,
            before_commit=before_commit,
        )  # fmt: skip

    def _look_for_what_to_resume(self) -> None:
        begun = self._begun(0)
        if not self._fresh:
            self._resumption = resumption.find(self._storage, self._names, begun)
        if self._resumption is None:
            self._record_anew()
        else:
            self._begin_replay(self._resumption)

    def _begun(self, after_sequence: int) -> Begun:
        script, *arguments = self._command
        return Begun(JOURNAL_VERSION, script, list(arguments), after_sequence)

    def _record_anew(self) -> None:
        newest = resumption.newest_sequence(self._storage)
        resumption.settle(self._storage, self._names)
        name = self._names.fresh if newest else self._names.current
        self._storage.remove(name)
        self._record(Journal(self._storage, name, self._begun(newest)))
        self._next_forward.arm()

    def _record(self, journal: Journal) -> None:
        from remora.checkpoint.ride.record import Recorder

        self._journal = journal
        self._recorder = Recorder(journal)
        self._recorder.start()

    # ------------------------------------------------------------ replaying

    def _begin_replay(self, found: Resumption) -> None:
        from remora.checkpoint.ride.replay import Replay

        if list(self._command[1:]) != found.log.begun.arguments:
            self._say(
                f"the arguments were {found.log.begun.arguments} when this run began, and are "
                f"{list(self._command[1:])} now"
            )
        if found.target is None:
            self._say("this run had come to its end; replaying its script without computing")
        else:
            self._say(
                f"resuming at step {found.target.step:,}; replaying its script without computing"
            )
        self._replay_began = time.perf_counter()
        self._replay = Replay(found.log, found.target, self._arrived, self._first_forward)
        self._replay.start()

    def _arrived(self, frame: FrameType | None) -> None:
        """The script is where the checkpoint was made; replay's patches are off."""
        found, job, saver = self._resumption, self._job, self._saver
        if found is None or found.target is None or job is None or saver is None:
            return
        self._state.frame = frame
        with self._ending_the_job():
            saver.restore(found.target.step)
        self._state.frame = None
        journal = Journal(self._storage, self._names.current, found.log)
        journal.calls = found.target.calls
        self._record(journal)
        self._replay = None
        self._point, self._last_saved = found.target, found.target.step
        seconds = time.perf_counter() - self._replay_began
        each = seconds / max(found.target.step, 1)
        self._say(
            f"resumed at step {found.target.step:,} after {format_seconds(seconds)} "
            f"({format_seconds(each)} a step)"
        )

    # ------------------------------------------------------------ the script's iterations

    def _before_step(self, step: Step) -> None:
        if self._recorder is not None and self._next_forward.armed:
            self._next_forward.disarm()
            if step.total:
                self._at("step", sys._getframe(1))

    def _after_step(self, step: Step) -> None:
        from remora.checkpoint.ride import rng

        self._cleared_last, self._cleared = self._cleared, False
        self._iterations.stepped(id(step.optimizer))
        if step.optimizer not in self._optimizers:
            self._find_state()
        if self._recorder is not None and self._journal is not None:
            self._recorder.stepped()
            self._journal.stepped()
            if self._wants_point(step.total):
                self._random = rng.capture_torch()
                self._next_forward.arm()

    def _wants_point(self, total: int) -> bool:
        if not self._iterations.over(self._alone):
            return False
        return self._every == "auto" or self._is_due(total) or self._notice.given

    def _is_due(self, total: int) -> bool:
        return self._every != "auto" and total // self._every > self._last_saved // self._every

    def _find_state(self) -> None:
        """An optimizer that is not known yet has stepped: look at what there is."""
        from remora.checkpoint.ride.script_state import Tracked

        if self._job is None or self._saver is None:
            return
        found = self._job.state.find()
        models = {each.name: each.module for each in found.models}
        optimizers = {each.name: each.optimizer for each in found.optimizers}
        for each in found.optimizers:
            self._optimizers.add(each.optimizer)
        self._alone = len(found.optimizers) == 1
        self._state.tracked = Tracked(models, optimizers)
        parts = {
            "model": models,
            "optimizer": optimizers,
            "scheduler": {each.name: each.scheduler for each in found.schedulers},
            "scaler": {each.name: each.value for each in found.scalers},
        }
        self._saver.track(script=self._state, **{name: each for name, each in parts.items() if each})

    def _on_zero_grad(self, args: Any, kwargs: Any) -> None:
        self._cleared = True

    def _on_forward(self, frame: FrameType) -> None:
        try:
            if not self._point.calls and not self._iterations.calls:
                self._first_forward(frame)
            else:
                self._at("forward", frame)
        except Exception as error:
            self._steps.fail(error)

    def _first_forward(self, frame: FrameType | None) -> None:
        self._state.before_first_forward(frame)

    # ------------------------------------------------------------ saving

    def _at(self, where: str, frame: FrameType | None) -> None:
        """The script is between two iterations."""
        job, saver = self._job, self._saver
        if job is None or saver is None:
            return
        step = job.steps.count
        self._point, self._frame = Point(step, self._iterations.calls, where, self._random), frame
        try:
            if self._notice.given:
                self._save_and_leave(step)
            if self._every == "auto":
                saved = saver.step(step - 1)
            else:
                saved = self._is_due(step) and saver.save(step)
            if saved:
                self._last_saved = step
        finally:
            self._frame = None

    def _begin_capture(self) -> tuple[int, int, FrameType | None, bool]:
        point = self._point
        if self._journal is not None:
            self._journal.mark(point)
        with_gradients = point.at == "step" or not self._cleared_last
        return point.step, point.calls, self._frame, with_gradients

    def _before_commit(self, step: int) -> None:
        """In a writer's thread: what replay needs for this step must be durable first."""
        if self._journal is not None:
            self._journal.flush()

    def _save_and_leave(self, step: int) -> None:
        if self._saver is None:
            return
        self._stopping = True
        self._say(f"told to end: saving step {step:,}")
        self._saver.wait()
        self._saver.save(step)
        self._saver.wait()
        raise SystemExit(EXIT_CODE)

    # ------------------------------------------------------------ the end

    def finish(self) -> None:
        """The script has ended: if it ended well, save where it ended."""
        with contextlib.ExitStack() as stack:
            stack.callback(self._close)
            if self._replay is not None:
                self._say_how_replay_ended()
            elif self._recorder is not None and self._ended_well():
                self._save_the_end()

    def _say_how_replay_ended(self) -> None:
        found = self._resumption
        if found is None or self._replay is None:
            return
        seconds = format_seconds(time.perf_counter() - self._replay_began)
        if found.target is None:
            self._say(f"replayed to its end in {seconds}; nothing was left to do")
        elif self._ended_well():
            self._say(
                f"the script ended before step {found.target.step:,}, where it was to be resumed"
            )

    def _ended_well(self) -> bool:
        return not self._stopping and getattr(sys, "last_value", None) is self._last_error

    def _save_the_end(self) -> None:
        job, saver, journal, recorder = self._job, self._saver, self._journal, self._recorder
        if job is None or saver is None or journal is None or recorder is None:
            return
        recorder.stop()
        self._next_forward.disarm()
        step = job.steps.count
        self._point = Point(step, self._iterations.calls, "end")
        if step > self._last_saved:
            saver.wait()
            saver.save(step)
        saver.wait()
        journal.mark(Ended(step, self._iterations.calls))
        journal.flush()

    def detach(self) -> None:
        if self._job is not None:
            self._close()

    def _close(self) -> None:
        """Let what is in flight come to its end, and put everything back."""
        self._leave()
        saver, self._saver = self._saver, None
        try:
            if saver is not None:
                saver.close()
        finally:
            if self._journal is not None:
                self._journal.close()
                self._journal = None

    def _leave(self) -> None:
        """Put everything back that is not the job's to remove."""
        self._job = None
        self._stop_waiting()
        self._notice.remove()
        if self._replay is not None:
            self._replay.stop()
            self._replay = None
        if self._recorder is not None:
            self._recorder.stop()
            self._recorder = None
        if hasattr(self, "_next_forward"):
            self._next_forward.disarm()

    def abandon(self) -> None:
        """In a forked child: the parent is the one that is checkpointed."""
        self._leave()
        self._saver = self._journal = None

    # ------------------------------------------------------------ words

    def _ending_the_job(self) -> contextlib.AbstractContextManager[None]:
        return _EndingTheJob()

    def _say(self, line: str) -> None:
        stream = self._stream or sys.stderr
        if stream is not None:
            with contextlib.suppress(OSError, ValueError):  # closed, or nobody reads it any more
                stream.write(f"remora: checkpoint: {line}\n")
                stream.flush()


class _EndingTheJob:
    """What the user can mend ends the program it is raised into, in one line."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: BaseException | None, at: Any) -> None:
        if isinstance(error, UserError) and not isinstance(error, JobEnded):
            raise JobEnded(str(error)) from error


def _number(variable: str, default: int) -> int:
    """What a launcher says in the environment."""
    text = os.environ.get(variable, "")
    return int(text) if text.isdigit() else default


_riding: weakref.WeakSet[CheckpointService] = weakref.WeakSet()


def _stay_with_parent(service: CheckpointService) -> None:
    if not _riding:
        os.register_at_fork(after_in_child=_abandon_all)
    _riding.add(service)


def _abandon_all() -> None:
    for service in list(_riding):
        service.abandon()
    _riding.clear()
