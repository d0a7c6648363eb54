"""One riding of a script, from its import of torch to its end: replaying, recording, saving."""

from __future__ import annotations

import sys
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Literal, Protocol

from torch.optim import optimizer as torch_steps

from remora.checkpoint.counters import Counters
from remora.checkpoint.goodput.progress import ProgressLog
from remora.checkpoint.ride import resumption, rng
from remora.checkpoint.ride.journal import JOURNAL_VERSION, Begun, Ended, Journal, Point
from remora.checkpoint.ride.points import Iterations, NextForward
from remora.checkpoint.ride.record import Recorder
from remora.checkpoint.ride.replay import Replay
from remora.checkpoint.ride.resumption import Names, Resumption
from remora.checkpoint.ride.script_state import Capture, ScriptState, Tracked
from remora.checkpoint.ride.signals import EXIT_CODE, Notice
from remora.checkpoint.storage.contract import Storage
from remora.core.errors import JobEnded, UserError
from remora.core.units import format_seconds
from remora.tap.job import Job
from remora.tap.steps import Step


class Saver(Protocol):
    """What is asked of a checkpointer; :class:`remora.Checkpointer` is one."""

    counters: Counters

    def track(self, **parts: Any) -> None: ...
    def restore(self, step: int | None = None) -> int | None: ...
    def step(self, step: int) -> bool: ...
    def save(self, done: int) -> bool: ...
    def agreed_end(self, done: int) -> int | None: ...
    def wait(self) -> None: ...
    def wait_copied(self) -> None: ...
    def close(self) -> None: ...


MakeSaver = Callable[[Callable[[int], None]], Saver]
"""Makes one that calls what it is given with a step, before it commits that step."""


@dataclass(frozen=True)
class Plan:
    """What the user asked for, and where."""

    storage: Storage
    names: Names
    ranks: int
    command: tuple[str, ...]
    """The script's name and its arguments."""
    every: int | Literal["auto"]
    fresh: bool
    progress: Path | None = None
    """Where to say of every computed step that it is done; None says it nowhere."""

    def due(self, done: int, saved: int) -> bool:
        """Whether a checkpoint is due by ``every`` after ``done`` steps, the last after ``saved``.

        Not every step is the end of an iteration: the first end past a multiple counts.
        """
        return self.every != "auto" and done // self.every > saved // self.every

    def begun(self, after_sequence: int) -> Begun:
        script, *arguments = self.command
        return Begun(JOURNAL_VERSION, script, arguments, after_sequence)


class Session:
    """Begins at once.

    Raises:
        UserError: the folder cannot be used, or holds another script's checkpoints.
    """

    def __init__(
        self,
        job: Job,
        plan: Plan,
        make_saver: MakeSaver,
        notice: Notice,
        say: Callable[[str], None],
    ) -> None:
        self._job, self._plan, self._notice, self._say = job, plan, notice, say
        self._recorder: Recorder | None = None
        self._replay: Replay | None = None
        self._resumption: Resumption | None = None
        self._iterations = Iterations()
        self._state = ScriptState(self._begin_capture, say)
        self._known: weakref.WeakSet[Any] = weakref.WeakSet()
        self._alone = False
        self._cleared = self._cleared_last = False
        self._random: rng.States = {}
        self._point = Point(0, 0, "forward")
        self._frame: FrameType | None = None
        self._saved = 0
        self._leaving = False
        self._trouble: Exception | None = None
        self._first_step_done = 0.0
        self._progress = ProgressLog(plan.progress) if plan.progress is not None else None
        self._make_saver = make_saver
        self._known_saver: Saver | None = None
        if plan.ranks == 1:
            self._known_saver = self._saver
        try:
            self._subscribe()
            self._begin()
        except BaseException:
            self.close()
            raise

    _hooks: tuple[Any, ...] = ()

    def _subscribe(self) -> None:
        job = self._job
        self._next_forward = NextForward(job, self._on_forward)
        for name in ("torch.optim.optimizer.Optimizer.zero_grad", "torch.nn.Module.zero_grad"):
            job.calls.watch(name, before=self._on_zero_grad)
        # Hooks of our own as well: what a tap's callback returns or raises is not the program's.
        self._hooks = (
            torch_steps.register_optimizer_step_pre_hook(self._on_step),
            torch_steps.register_optimizer_step_post_hook(self._on_stepped),
        )
        self._steps = job.steps.subscribe(after=self._after_step, before=self._before_step)

    @property
    def _saver(self) -> Saver:
        """Ranks make theirs together, once the script has brought them together: at a step."""
        if self._known_saver is None:
            self._known_saver = self._make_saver(self._before_commit)
        return self._known_saver

    def _begin(self) -> None:
        storage, names = self._plan.storage, self._plan.names
        found = None
        if not self._plan.fresh:
            found = resumption.find(storage, names, self._plan.begun(0))
        if found is not None:
            self._begin_replay(found)
            return
        resumption.settle(storage, names)
        newest = resumption.newest_sequence(storage)
        name = names.fresh if newest else names.current
        storage.remove(name)
        self._record(Journal(storage, name, self._plan.begun(newest)))
        self._next_forward.arm()

    def _record(self, journal: Journal) -> None:
        self._recorder = Recorder(journal)
        self._recorder.start()

    # ------------------------------------------------------------ replaying

    def _begin_replay(self, found: Resumption) -> None:
        then, now = found.log.begun.arguments, list(self._plan.command[1:])
        if then != now:
            self._say(f"the arguments were {then} when this run began, and are {now} now")
        if found.target is None:
            what = "this run had come to its end"
        else:
            what = f"resuming at step {found.target.step:,}"
        self._say(f"{what}; replaying its script without computing")
        self._resumption = found
        self._replay_began = time.perf_counter()
        self._replay = Replay(found.log, found.target, self._arrived, self._first_forward)
        self._replay.start()

    def _arrived(self, frame: FrameType | None) -> None:
        """The script is where the checkpoint was made; replay's patches are off."""
        found = self._resumption
        if found is None or found.target is None:
            return
        self._raise_trouble()
        target = found.target
        self._replay = None
        seconds = time.perf_counter() - self._first_step_done
        self._state.frame = frame
        try:
            self._saver.restore(target.step)
        except JobEnded:
            raise
        except UserError as error:
            raise JobEnded(str(error)) from error
        finally:
            self._state.frame = None
        journal = Journal(self._plan.storage, self._plan.names.current, found.log)
        journal.calls = target.calls
        self._record(journal)
        self._point, self._saved = target, target.step
        each = format_seconds(seconds / max(target.step - 1, 1))
        whole = format_seconds(time.perf_counter() - self._replay_began)
        self._say(f"resumed at step {target.step:,} after {whole}, {each} a replayed step")

    # ------------------------------------------------------------ the script's iterations

    def _on_step(self, optimizer: Any, args: Any, kwargs: Any) -> Any:
        self._raise_trouble()
        if self._replay is not None:
            changed = self._replay.before_step(optimizer, args, kwargs)
            if self._replay is not None:
                return changed
        if self._recorder is not None:  # perhaps from this very step on
            return self._recorder.before_step(args, kwargs)
        return None

    def _on_stepped(self, optimizer: Any, args: Any, kwargs: Any) -> None:
        if self._replay is not None:
            self._replay.after_step(optimizer)

    def _before_step(self, step: Step) -> None:
        if self._recorder is not None and self._next_forward.armed:
            self._next_forward.disarm()
            if step.total:
                self._at("step", sys._getframe(1))
                self._saver.wait_copied()  # no forward lies between: the step changes it now

    def _after_step(self, step: Step) -> None:
        if self._replay is None:
            self._count(step)
            return
        try:
            self._count(step)
        except Exception as error:  # detached now, the script would go on from nowhere
            self._trouble = error

    def _raise_trouble(self) -> None:
        if self._trouble is not None:
            raise JobEnded(f"replay failed: {self._trouble}") from self._trouble

    def _count(self, step: Step) -> None:
        self._cleared_last, self._cleared = self._cleared, False
        self._iterations.stepped(id(step.optimizer))
        if self._iterations.calls == 1:
            self._first_step_done = time.perf_counter()
        if step.optimizer not in self._known:
            self._find_state()
        if self._recorder is not None:
            self._recorder.stepped()
            if self._progress is not None and step.advances:
                self._progress.finished(step.total - 1)
            if self._wants_point(step.total):
                self._random = rng.capture_torch()
                self._next_forward.arm()

    def _wants_point(self, done: int) -> bool:
        if not self._iterations.over(self._alone):
            return False
        every = self._plan.every
        return every == "auto" or self._plan.due(done, self._saved) or self._notice.given

    def _find_state(self) -> None:
        """An optimizer that is not known yet has stepped: look at what there is."""
        found = self._job.state.find()
        models = {each.name: each.module for each in found.models}
        optimizers = {each.name: each.optimizer for each in found.optimizers}
        for optimizer in optimizers.values():
            self._known.add(optimizer)
        self._alone = len(optimizers) == 1
        self._state.tracked = Tracked(models, optimizers)
        parts = {
            "model": models,
            "optimizer": optimizers,
            "scheduler": {each.name: each.scheduler for each in found.schedulers},
            "scaler": {each.name: each.value for each in found.scalers},
        }
        present = {name: each for name, each in parts.items() if each}
        self._saver.track(script=self._state, **present)

    def _on_zero_grad(self, args: Any, kwargs: Any) -> None:
        self._cleared = True

    def _on_forward(self, frame: FrameType) -> None:
        try:
            if self._iterations.calls:
                self._at("forward", frame)
            else:
                self._first_forward(frame)
        except Exception as error:
            self._steps.fail(error)

    def _first_forward(self, frame: FrameType | None) -> None:
        self._state.before_first_forward(frame)

    # ------------------------------------------------------------ saving

    def _at(self, where: str, frame: FrameType | None) -> None:
        """The script is between two iterations."""
        done = self._job.steps.count
        self._point = Point(done, self._iterations.calls, where, self._random)
        self._frame = frame
        try:
            if self._notice.given and self._may_leave(done):
                self._save_and_leave(done)
            elif self._save_if_due(done):
                self._saved = done
        finally:
            self._frame = None

    def _may_leave(self, done: int) -> bool:
        """Ranks leave together; a notice that one of them has not been given ends none."""
        end = self._saver.agreed_end(done)
        return end is not None and done >= end

    def _save_if_due(self, done: int) -> bool:
        if self._plan.every == "auto":
            return self._saver.step(done - 1)
        return self._plan.due(done, self._saved) and self._saver.save(done)

    def _begin_capture(self) -> Capture:
        point = self._point
        if self._recorder is not None:
            self._recorder.journal.mark(point)
        gradients = point.at == "step" or not self._cleared_last
        return Capture(point.step, point.calls, self._frame, gradients)

    def _before_commit(self, step: int) -> None:
        """In a writer's thread: what replay needs up to ``step`` must be durable first."""
        if self._recorder is not None:
            self._recorder.journal.flush()

    def _save_and_leave(self, done: int) -> None:
        self._leaving = True
        self._say(f"told to end: saving step {done:,}")
        self._saver.wait()
        self._saver.save(done)
        self._saver.wait()
        raise SystemExit(EXIT_CODE)

    # ------------------------------------------------------------ the end

    def finish(self, *, well: bool) -> None:
        """The script has ended: if ``well``, save where it ended."""
        if self._replay is not None:
            self._say_how_replay_ended(well)
        elif self._recorder is not None and well and not self._leaving:
            self._save_the_end(self._recorder)

    def _say_how_replay_ended(self, well: bool) -> None:
        target = self._resumption.target if self._resumption is not None else None
        if target is None and well:
            seconds = format_seconds(time.perf_counter() - self._replay_began)
            self._say(f"replayed to its end in {seconds}; nothing was left to do")
        elif target is not None and well:
            self._say(f"the script ended before step {target.step:,}, where it was to be resumed")

    def _save_the_end(self, recorder: Recorder) -> None:
        recorder.stop()
        self._next_forward.disarm()
        done = self._job.steps.count
        self._point = Point(done, self._iterations.calls, "end")
        if done:
            self._saver.wait()
            if done > self._saved:
                self._saver.save(done)
                self._saver.wait()
        recorder.journal.mark(Ended(done, self._iterations.calls))
        recorder.journal.flush()
        if self._plan.names.of_first and self._saver.counters.committed:
            self._say(self._saver.counters.sentence())

    def close(self) -> None:
        """Let what is in flight come to its end, and put everything back."""
        recorder = self._recorder
        self.abandon()
        try:
            if self._known_saver is not None:
                self._known_saver.close()
        finally:
            if recorder is not None:
                recorder.journal.close()

    def abandon(self) -> None:
        """Put everything back that is not the job's to remove; write nothing any more."""
        if self._replay is not None:
            self._replay.stop()
        if self._recorder is not None:
            self._recorder.stop()
        for hook in self._hooks:
            hook.remove()
        if self._progress is not None:
            self._progress.close()
            self._progress = None
        if hasattr(self, "_next_forward"):
            self._next_forward.disarm()
