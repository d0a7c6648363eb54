"""The services that ride along: one learns invariants, one checks them, one records the run."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import ClassVar, Literal, TextIO

from remora.check.calls import MODEL_FORWARD
from remora.check.checker import Checker
from remora.check.findings import Findings, in_words
from remora.check.invariants import read_invariants
from remora.check.learning import SAVE_EVERY_S, Learning
from remora.check.observe.context import PROPERTIES, rank_of_process
from remora.check.observe.live import LiveCalls
from remora.check.observe.watchlist import public_functions
from remora.check.ranks.arrival import when_ranks_run, world_of_process
from remora.check.ranks.checking import RanksOfCheck
from remora.check.ranks.gathering import Gathering
from remora.check.ranks.kept import KeptTrace
from remora.check.report import CheckReport, Violation, account
from remora.check.report_files import check_report_name, write_report
from remora.check.trace.layout import claim
from remora.check.trace.pulse import Pulse
from remora.check.trace.recorder import Recorder
from remora.check.traincheck.reading import read_any
from remora.core.errors import InvariantViolated
from remora.core.ranks import Ranks
from remora.tap.job import Job
from remora.tap.service import Service

OnViolation = Literal["warn", "raise"] | Callable[[Violation], object]


class LearnService(Service):
    """Watches the program broadly and writes what held of it throughout to a file.

    What a file that is there says already stays unless this run shows otherwise. Of several ranks
    the first learns, from all: at the end the others hand over what they did.

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
        self._part: Learning | KeptTrace | None = None
        self._gathering: Gathering | None = None

    def attach(self, job: Job) -> None:
        rank = rank_of_process()
        self._part = part = self._learning() if rank == 0 else self._kept(rank)
        functions = part.functions if isinstance(part, Learning) else self._said_before()
        when_ranks_run(job, self._meet)
        live = LiveCalls(job, part)
        job.imports.subscribe("torch", lambda: _watch(live, functions))

    def _learning(self) -> Learning:
        return Learning(
            self._path,
            self._program,
            self._tell,
            world=world_of_process(),
            save_every_s=self._save_every_s,
        )

    def _kept(self, rank: int) -> KeptTrace:
        return KeptTrace(program=self._program, rank=rank)

    def _said_before(self) -> frozenset[str]:
        """The functions that have to be watched to try what the file said before."""
        if not self._path.exists():
            return frozenset()
        return Checker(read_invariants(self._path).invariants, lambda _finding: None).functions

    def _meet(self, ranks: Ranks) -> None:
        self._gathering = Gathering(ranks)

    def finish(self) -> None:
        part, gathering = self._part, self._gathering
        if part is not None and gathering is not None and gathering.rank:
            gathering.give(part.trace())
        elif isinstance(part, Learning):
            part.finish(self._others(gathering) if gathering is not None else ())

    def _others(self, gathering: Gathering) -> Iterator[tuple[int, bytes]]:
        for rank, trace in gathering.take():
            if trace is not None:
                yield rank, trace
            else:
                self._tell(f"rank {rank} did not say what it did; nothing was learned from it")

    def _tell(self, text: str) -> None:
        _say(self._stderr, text)

    def detach(self) -> None:
        if self._part is not None:
            self._part.close()
        self._part = self._gathering = None


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
        path: the file of invariants, ours or TrainCheck's.
        on_violation: what to do with the first violation of each invariant: ``"warn"`` says it on
            stderr, ``"raise"`` raises :class:`~remora.core.errors.InvariantViolated` where it was
            found, a function is called with it.
        reports: files to write at the end, by their names JSON or a page.

    Raises:
        InvariantsUnusable: the file is missing, damaged or of another kind.
        BadValue: a report's name tells no kind.
    """

    name: ClassVar[str] = "check"

    def __init__(
        self,
        path: Path,
        *,
        on_violation: OnViolation = "warn",
        program: str = "",
        reports: tuple[Path, ...] = (),
        stderr: TextIO | None = None,
    ) -> None:
        self._read = read_any(path)
        self._invariants = self._read.invariants
        self._reports = tuple(map(check_report_name, reports))
        self._program, self._stderr = program, stderr
        self._on_violation = on_violation
        self.findings = Findings(self._announce, rank=rank_of_process())
        self._checker = Checker(self._invariants.invariants, self.findings.add)
        self._live: LiveCalls | None = None
        self._ranks = RanksOfCheck(lambda text: _say(stderr, text))

    def attach(self, job: Job) -> None:
        self._tell_what_is_not_checked()
        if self._ranks.meeting is not None:
            self._checker.join(self._ranks.meeting)
        when_ranks_run(job, self._ranks.open)
        self._live = live = LiveCalls(job, self._checker)

        def begin() -> None:
            live.find(self._checker.functions)
            self._checker.leave_out(live.unknown)
            needed = self._checker.functions
            live.watch(needed)
            live.follow_steps(forwards=MODEL_FORWARD in needed or self._needs_forwards())

        job.imports.subscribe("torch", begin)

    def _needs_forwards(self) -> bool:
        return self._checker.looks_at_variables or any(
            PROPERTIES & one.when.properties() for one in self._invariants.invariants
        )

    def _tell_what_is_not_checked(self) -> None:
        for remark in (*self._read.unread, *self._read.unmet):
            _say(self._stderr, f"line {remark.line} is not checked: {remark.reason}")

    def _announce(self, violation: Violation) -> None:
        if self._on_violation == "raise":
            self._conclude(self.report())  # it is off the job once this is raised
            raise InvariantViolated(in_words(violation))
        if callable(self._on_violation):
            self._hand_over(self._on_violation, violation)
        elif self._ranks.is_first_to_tell(violation.invariant):
            _say(self._stderr, in_words(violation))

    def _hand_over(self, call: Callable[[Violation], object], violation: Violation) -> None:
        """A function that raises is told once, and not called again: violations are said then."""
        try:
            call(violation)
        except Exception as error:
            self._on_violation = "warn"
            _say(self._stderr, f"on_violation raised {error!r}; violations are shown here from now")
            _say(self._stderr, in_words(violation))

    def report(self) -> CheckReport:
        judged = [
            (invariant, rule.triggered)
            for invariant, rule in zip(self._checker.invariants, self._checker.rules, strict=True)
        ]
        unknown = self._live.unknown if self._live is not None else {}
        return account(self._program, self._checker.step, judged, self.findings.violations, unknown)

    @property
    def found_any(self) -> bool:
        """Whether any invariant did not hold."""
        return bool(self.findings.violations)

    def finish(self) -> None:
        report = self._ranks.whole(self.report())
        if report is not None:
            self._conclude(report)
        self._ranks.close()

    def _conclude(self, report: CheckReport) -> None:
        for path in self._reports:
            write_report(path, report, self._invariants.invariants)
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
