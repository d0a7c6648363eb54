"""The services that ride along: one learns invariants, one checks them, one records the run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import ClassVar, Literal, TextIO

from remora.check.announcing import Announcer, in_words
from remora.check.calls import MODEL_FORWARD
from remora.check.checker import Checker
from remora.check.findings import Findings
from remora.check.invariants import writable
from remora.check.learning import SAVE_EVERY_S, Learning
from remora.check.observe.context import PROPERTIES, rank_of_process
from remora.check.observe.live import LiveCalls
from remora.check.observe.sampling import checked
from remora.check.observe.watchlist import public_functions
from remora.check.ranks.arrival import when_ranks_run, world_of_process
from remora.check.ranks.checking import RanksOfCheck
from remora.check.ranks.kept import KeptTrace
from remora.check.ranks.learning import RanksOfLearning, said_before
from remora.check.report import CheckReport, NotChecked, Violation, account, shortened
from remora.check.report_files import check_report_name, write_report
from remora.check.trace.layout import claim
from remora.check.trace.pulse import Pulse
from remora.check.trace.recorder import Recorder
from remora.check.traincheck.reading import read_any
from remora.core.errors import BadValue, InvariantViolated
from remora.core.saying import say
from remora.tap.calls import expect_in_main
from remora.tap.job import Job
from remora.tap.service import Service

OnViolation = Literal["warn", "raise"] | Callable[[Violation], object]


class LearnService(Service):
    """Watches the program broadly and writes what held of it throughout to a file.

    What a file that is there says already stays unless this run shows otherwise. Of several ranks
    the first learns, from all: at the end the others hand over what they did.

    Args:
        path: the file of invariants.
        watch: functions to learn of beside torch's, such as the program's own.
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
        watch: tuple[str, ...] = (),
        save_every_s: float = SAVE_EVERY_S,
        stderr: TextIO | None = None,
    ) -> None:
        self._path, self._program, self._save_every_s = path, program, save_every_s
        self._stderr, self._also = stderr, watch
        self._part: Learning | KeptTrace | None = None
        self._live: LiveCalls | None = None
        self._job: Job | None = None
        self._ranks = RanksOfLearning(self._tell)

    def attach(self, job: Job) -> None:
        writable(self._path)
        self._part = part = self._new_part(rank_of_process())
        said = part.functions if isinstance(part, Learning) else said_before(self._path)
        when_ranks_run(job, self._ranks.open)
        self._live = live = LiveCalls(job, part)
        self._job = job
        expect_in_main([*said, *self._also])
        job.imports.subscribe("torch", lambda: _watch(live, [*said, *self._also]))

    def _new_part(self, rank: int) -> Learning | KeptTrace:
        if rank:
            return KeptTrace(program=self._program, rank=rank)
        return Learning(
            self._path, self._program, self._tell,
            world=world_of_process(), save_every_s=self._save_every_s,
        )  # fmt: skip

    def _tell(self, text: str) -> None:
        _say(self._stderr, text)

    def finish(self) -> None:
        for line in _unseen(self._job, self._live, self._also):
            self._tell(line)
        if self._part is not None:
            self._ranks.finish(self._part)

    def detach(self) -> None:
        if self._part is not None:
            self._part.close()
        self._part = self._live = self._job = None


class RecordService(Service):
    """Watches the program broadly and writes every event to a trace.

    Args:
        folder: of the trace; each rank adds a file.
        watch: functions to record beside torch's, such as the program's own.
        overwrite: replace this rank's trace where there is one.

    Raises:
        TraceUnusable: from attaching; there is a trace already, or the folder cannot be written.
    """

    name: ClassVar[str] = "record"

    def __init__(
        self,
        folder: Path,
        *,
        program: str = "",
        watch: tuple[str, ...] = (),
        overwrite: bool = False,
    ) -> None:
        self._folder, self._program, self._overwrite = folder, program, overwrite
        self._also = watch
        self._recorder: Recorder | None = None
        self._live: LiveCalls | None = None
        self._pulse: Pulse | None = None
        self._job: Job | None = None

    def attach(self, job: Job) -> None:
        rank = rank_of_process()
        path = claim(self._folder, rank, overwrite=self._overwrite)
        self._overwrite = True  # what it wrote itself it may replace, when attached again
        file = path.open("ab", buffering=0)
        self._recorder = recorder = Recorder(file, program=self._program, rank=rank)
        self._pulse, self._job = Pulse(recorder.flush), job
        self._live = live = LiveCalls(job, recorder)
        expect_in_main(self._also)
        job.imports.subscribe("torch", lambda: _watch(live, self._also))

    def flush(self) -> None:
        """Write what has been recorded so far."""
        if self._recorder is not None:
            self._recorder.flush()

    def finish(self) -> None:
        for line in _unseen(self._job, self._live, self._also):
            _say(None, line)
        if self._recorder is not None and self._job is not None:
            self._recorder.run_ended(self._job.exit_code)

    def detach(self) -> None:
        if self._pulse is not None:
            self._pulse.stop()
        if self._recorder is not None:
            self._recorder.close()
        self._recorder = self._pulse = self._job = self._live = None


class CheckService(Service):
    """Checks invariants at every step and tells of each that does not hold.

    Args:
        path: the file of invariants, ours or TrainCheck's.
        on_violation: what to do with the first violation of each invariant: ``"warn"`` says it on
            stderr, ``"raise"`` raises :class:`~remora.core.errors.InvariantViolated` where it was
            found, a function is called with it.
        reports: files to write at the end, by their names JSON or a page.
        every: check one step in so many.

    Raises:
        InvariantsUnusable: the file is missing, damaged or of another kind.
        BadValue: a report's name tells no kind, or ``every`` is no number of steps.
    """

    name: ClassVar[str] = "check"

    def __init__(
        self,
        path: Path,
        *,
        on_violation: OnViolation = "warn",
        program: str = "",
        reports: tuple[Path, ...] = (),
        every: int = 1,
        stderr: TextIO | None = None,
    ) -> None:
        self._every = checked(every)
        self._read = read_any(path)
        self._invariants = self._read.invariants
        self._reports = tuple(map(check_report_name, reports))
        self._program, self._stderr = program, stderr
        self._on_violation = on_violation
        self._names_rank = world_of_process() > 1
        self._announcer = Announcer(lambda text: _say(stderr, text), names_rank=self._names_rank)
        self.findings = Findings(self._announce, rank=rank_of_process())
        self._checker = Checker(
            self._invariants.invariants, self.findings.add, self._announcer.step_ended
        )
        self._live: LiveCalls | None = None
        self._strict = False
        self._ranks = RanksOfCheck(lambda text: _say(stderr, text))

    def attach(self, job: Job) -> None:
        self._strict = job.strict
        self._tell_what_is_not_checked()
        if self._ranks.meeting is not None:
            self._checker.join(self._ranks.meeting)
        when_ranks_run(job, self._ranks.open)
        self._live = live = LiveCalls(job, self._checker, every=self._every)
        expect_in_main(self._checker.functions)

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
        for line in shortened(self._read.not_checked(live=True)):
            _say(self._stderr, line)

    def _announce(self, violation: Violation) -> None:
        if self._on_violation == "raise":
            self._conclude(self.report())  # it is off the job once this is raised
            raise InvariantViolated(in_words(violation, names_rank=self._names_rank))
        if callable(self._on_violation):
            self._hand_over(self._on_violation, violation)
        elif self._ranks.is_first_to_tell(violation.invariant):
            self._announcer.found(violation)

    def _hand_over(self, call: Callable[[Violation], object], violation: Violation) -> None:
        """A function that raises is told once, and not called again: violations are said then."""
        try:
            call(violation)
        except Exception as error:
            self._on_violation = "warn"
            _say(self._stderr, f"on_violation raised {error!r}; violations are shown here from now")
            self._announcer.found(violation)

    def report(self) -> CheckReport:
        judged = [
            (invariant, rule.triggered)
            for invariant, rule in zip(self._checker.invariants, self._checker.rules, strict=True)
        ]
        unknown = self._live.unknown if self._live is not None else {}
        return account(
            self._program,
            self._live.context.step if self._live is not None else 0,
            judged,
            self.findings.violations,
            not_checked=[*self._read.not_checked(live=True), *self._of_unknown(unknown)],
            checked_in_part=self._read.checked_in_part(),
            not_watched=unknown,
            every=self._every,
        )

    def _of_unknown(self, unknown: Mapping[str, str]) -> Iterable[NotChecked]:
        """The invariants about functions that there are none of here."""
        for one in self._checker.invariants:
            why = [unknown[name] for name in one.claim.functions() if name in unknown]
            if why:
                yield NotChecked(invariant=one.name, expected=one.words(), reason=why[0])

    @property
    def judged(self) -> int:
        """How often an invariant has been judged so far, all together."""
        return sum(rule.triggered for rule in self._checker.rules)

    @property
    def found_any(self) -> bool:
        """Whether any invariant did not hold."""
        return bool(self.findings.violations)

    def finish(self) -> None:
        for line in _unseen(None, self._live, ()):
            _say(self._stderr, line)
        report = self._ranks.whole(self.report())
        try:
            if report is not None:
                self._conclude(report)
        finally:
            self._ranks.close()

    def _conclude(self, report: CheckReport) -> None:
        failed = None
        for path in self._reports:
            try:
                write_report(path, report, self._invariants.invariants)
            except BadValue as error:
                failed = error
                _say(self._stderr, str(error))
        self._announcer.ended()
        _say(self._stderr, report.summary())
        if failed is not None and self._strict:
            raise failed

    def detach(self) -> None:
        """Nothing but subscriptions, which the job ends."""


def _watch(live: LiveCalls, needed: Iterable[str] = ()) -> None:
    """Everything that is watched to learn, and what else is ``needed``."""
    live.watch(dict.fromkeys([*public_functions(), *needed]))
    live.follow_steps(forwards=True)


def _unseen(job: Job | None, live: LiveCalls | None, also: Iterable[str]) -> Iterable[str]:
    """What was to be watched and was not, in lines for the user."""
    if job is not None and live is not None:
        for name in also:
            if name in live.unknown or not job.calls.found(name):
                why = live.unknown.get(name, "the program never defined it")
                yield f"--watch {name} was not watched: {why}"
    if live is not None and live.variables.by_several_threads:
        yield "several threads train: what they did to variables was not looked at"


def _say(stderr: TextIO | None, text: str) -> None:
    say(f"remora check: {text}", stderr)
