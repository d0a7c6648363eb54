"""The services that ride along: one learns invariants, one checks them, one records the run."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import ClassVar, TextIO

from remora.check.calls import MODEL_FORWARD
from remora.check.checker import Checker
from remora.check.findings import Findings, in_words
from remora.check.invariants import Invariants, read_invariants
from remora.check.learning import SAVE_EVERY_S, Learning
from remora.check.observe.context import PROPERTIES, rank_of_process
from remora.check.observe.live import LiveCalls
from remora.check.observe.watchlist import public_functions
from remora.check.report import CheckReport, Violation, account, write_json
from remora.check.trace.layout import claim
from remora.check.trace.pulse import Pulse
from remora.check.trace.recorder import Recorder
from remora.tap.job import Job
from remora.tap.service import Service


class LearnService(Service):
    """Watches the program broadly and writes what held of it throughout to a file.

    What a file that is there says already stays unless this run shows otherwise. Of several ranks
    the first learns, since there is one file; a trace teaches what all of them do.

    Args:
        path: the file of invariants.
        save_every_s: how often what has been learned so far is written.

    Raises:
        InvariantsUnusable: from attaching; what is at ``path`` is no file of invariants.
    """

    name: ClassVar[str] = "learn"

    def __init__(
        self,
        path: Path,
        *,
        program: str = "",
        save_every_s: float = SAVE_EVERY_S,
        stderr: TextIO | None = None,
    ) -> None:
        self._path, self._program, self._save_every_s = path, program, save_every_s
        self._stderr = stderr
        self._learning: Learning | None = None

    def attach(self, job: Job) -> None:
        if rank_of_process() != 0:
            return
        self._learning = learning = Learning(
            self._path,
            self._program,
            lambda text: _say(self._stderr, text),
            save_every_s=self._save_every_s,
        )
        live = LiveCalls(job, learning)
        job.imports.subscribe("torch", lambda: _watch(live, learning.functions))

    def finish(self) -> None:
        if self._learning is not None:
            self._learning.finish()

    def detach(self) -> None:
        if self._learning is not None:
            self._learning.close()
        self._learning = None


class RecordService(Service):
    """Watches the program broadly and writes every event to a trace.

    Args:
        folder: of the trace; each rank adds a file.
        overwrite: replace this rank's trace where there is one.

    Raises:
        TraceUnusable: from attaching; there is a trace already, or the folder cannot be written.
    """

    name: ClassVar[str] = "record"

    def __init__(self, folder: Path, *, program: str = "", overwrite: bool = False) -> None:
        self._folder, self._program, self._overwrite = folder, program, overwrite
        self._recorder: Recorder | None = None
        self._pulse: Pulse | None = None
        self._job: Job | None = None

    def attach(self, job: Job) -> None:
        rank = rank_of_process()
        path = claim(self._folder, rank, overwrite=self._overwrite)
        self._overwrite = True  # what it wrote itself it may replace, when attached again
        file = path.open("ab", buffering=0)
        self._recorder = recorder = Recorder(file, program=self._program, rank=rank)
        self._pulse, self._job = Pulse(recorder.flush), job
        live = LiveCalls(job, recorder)
        job.imports.subscribe("torch", lambda: _watch(live))

    def finish(self) -> None:
        if self._recorder is not None and self._job is not None:
            self._recorder.run_ended(self._job.exit_code)

    def detach(self) -> None:
        if self._pulse is not None:
            self._pulse.stop()
        if self._recorder is not None:
            self._recorder.close()
        self._recorder = self._pulse = self._job = None


class CheckService(Service):
    """Checks invariants at every step and tells of each that does not hold.

    Args:
        path: the file of invariants.
        reports: files to write at the end; JSON.
    """

    name: ClassVar[str] = "check"

    def __init__(
        self,
        path: Path,
        *,
        program: str = "",
        reports: tuple[Path, ...] = (),
        stderr: TextIO | None = None,
    ) -> None:
        self._invariants: Invariants = read_invariants(path)
        self._program, self._reports, self._stderr = program, reports, stderr
        self.findings = Findings(self._announce)
        self._checker = Checker(self._invariants.invariants, self.findings.add)
        self._live: LiveCalls | None = None

    def attach(self, job: Job) -> None:
        self._live = live = LiveCalls(job, self._checker)
        needed = self._checker.functions

        def begin() -> None:
            live.watch(needed)
            live.follow_steps(forwards=MODEL_FORWARD in needed or self._needs_forwards())

        job.imports.subscribe("torch", begin)

    def _needs_forwards(self) -> bool:
        return self._checker.looks_at_variables or any(
            PROPERTIES & one.when.properties() for one in self._invariants.invariants
        )

    def _announce(self, violation: Violation) -> None:
        _say(self._stderr, in_words(violation))

    def report(self) -> CheckReport:
        judged = [
            (invariant, rule.triggered)
            for invariant, rule in zip(self._checker.invariants, self._checker.rules, strict=True)
        ]
        unknown = self._live.unknown if self._live is not None else {}
        return account(self._program, self._checker.step, judged, self.findings.violations, unknown)

    def finish(self) -> None:
        report = self.report()
        for path in self._reports:
            write_json(path, report)
        _say(self._stderr, report.summary())

    def detach(self) -> None:
        """Nothing but subscriptions, which the job ends."""


def _watch(live: LiveCalls, needed: Iterable[str] = ()) -> None:
    """Everything that is watched to learn, and what else is ``needed``."""
    live.watch(dict.fromkeys([*public_functions(), *needed]))
    live.follow_steps(forwards=True)


def _say(stderr: TextIO | None, text: str) -> None:
    stream = stderr or sys.stderr
    if stream is not None:
        stream.write(f"remora check: {text}\n")
        stream.flush()
