"""The checkpoint service: rides along with an unmodified script, and resumes it.

A first run records (:mod:`.record`) and saves at the points between iterations (:mod:`.points`). A
run that finds a checkpoint replays (:mod:`.replay`) up to the point at which it was made, is given
back its state there, and goes on recording. torch is left alone until the script imports it.
"""

from __future__ import annotations

import contextlib
import os
import sys
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal, TextIO

from remora.checkpoint.ride import resumption
from remora.checkpoint.ride.resumption import Names
from remora.checkpoint.ride.signals import Notice
from remora.core.errors import BadValue, JobEnded, UserError
from remora.tap.imports import ImportWatch
from remora.tap.service import Service

if TYPE_CHECKING:
    from remora.checkpoint.ride.session import MakeSaver, Saver, Session
    from remora.checkpoint.storage.local import LocalStorage
    from remora.tap.job import Job


class CheckpointService(Service):
    """Saves an unmodified job's whole state as it goes, and resumes it where it stopped.

    Args:
        directory: the checkpoint folder, made if need be.
        every: steps from one checkpoint to the next; ``"auto"`` measures and chooses.
        keep: committed checkpoints that stay; at least 2.
        max_overhead: for ``"auto"``: the largest share of training time saving may cost.
        fresh: start over; what is in the folder stays until the first checkpoint is committed.
        progress: a file to append to, a line for every step that is computed rather than replayed
            (:mod:`remora.checkpoint.goodput.progress`).
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
        progress: Path | None = None,
        command: Sequence[str] = ("",),
        stream: TextIO | None = None,
        make_saver: MakeSaver | None = None,
    ) -> None:
        if keep < 2:
            raise BadValue(f"keep={keep}: choose 2 or more, so that one checkpoint may be damaged")
        self._directory = directory.absolute()  # the script may change folder
        self._every, self._keep, self._max_overhead = every, keep, max_overhead
        self._fresh, self._command, self._stream = fresh, tuple(command), stream
        self._progress = None if progress is None else progress.absolute()
        self._make_saver = make_saver or self._checkpointer
        self._job: Job | None = None
        self._session: Session | None = None
        self._notice = Notice()
        self._stop_waiting: Callable[[], None] = _nothing

    def attach(self, job: Job) -> None:
        self._job = job
        self._last_error = getattr(sys, "last_value", None)
        self._ranks = _number("WORLD_SIZE", 1)
        self._names = Names.of_rank(_number("RANK", 0), self._ranks)
        self._storage: LocalStorage = resumption.open_folder(
            self._directory, fresh=self._fresh, alone=self._ranks == 1
        )
        imports = ImportWatch()
        self._stop_waiting = imports.when_imported("torch", self._torch_is_here)

    def _torch_is_here(self) -> None:
        """The script has imported torch; nothing of it has been used yet."""
        from remora.checkpoint.ride.session import Plan, Session
        from remora.checkpoint.ride.where import learn_torch

        if self._job is None:
            return
        learn_torch()
        plan = Plan(
            self._storage,
            self._names,
            self._ranks,
            self._command,
            self._every,
            self._fresh,
            self._progress,
        )
        _stay_with_parent(self)
        try:
            self._session = Session(self._job, plan, self._make_saver, self._notice, self._say)
        except UserError as error:
            raise JobEnded(str(error)) from error
        self._notice.install()

    def _checkpointer(self, before_commit: Callable[[int], None]) -> Saver:
        from remora.checkpoint.checkpointer import Checkpointer

        return Checkpointer(
            self._directory,
            every=self._every,
            keep=self._keep,
            max_overhead=self._max_overhead,
            before_commit=before_commit,
        )

    def finish(self) -> None:
        if self._session is not None:
            code = self._job.exit_code if self._job is not None else None
            raised = getattr(sys, "last_value", None) is not self._last_error
            self._session.finish(well=not raised and not code)

    def detach(self) -> None:
        session, self._session = self._session, None
        self._job = None
        self._stop_waiting()
        self._notice.remove()
        if session is not None:
            session.close()

    def abandon(self) -> None:
        """In a forked child: the parent is the one that is checkpointed."""
        session, self._session = self._session, None
        self._job = None
        self._notice.remove()
        if session is not None:
            session.abandon()

    def _say(self, line: str) -> None:
        stream = self._stream or sys.stderr
        if stream is not None:
            with contextlib.suppress(OSError, ValueError):  # closed, or nobody reads it any more
                stream.write(f"remora: checkpoint: {line}\n")
                stream.flush()


def _nothing() -> None:
    """There is nothing to wait for."""


def _number(variable: str, default: int) -> int:
    """What a launcher says in the environment."""
    text = os.environ.get(variable, "")
    return int(text) if text.isdigit() else default


_riding: weakref.WeakSet[CheckpointService] = weakref.WeakSet()
_registered = False


def _stay_with_parent(service: CheckpointService) -> None:
    global _registered
    if not _registered:
        os.register_at_fork(after_in_child=_abandon_all)
        _registered = True
    _riding.add(service)


def _abandon_all() -> None:
    for service in list(_riding):
        service.abandon()
    _riding.clear()
