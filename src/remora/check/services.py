"""The services that ride along: one learns invariants, one checks them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import ClassVar, TextIO

from remora.check.calls import MODEL_FORWARD
from remora.check.checker import Checker
from remora.check.findings import Findings, in_words
from remora.check.invariants import Invariants, read_invariants, write_invariants
from remora.check.learner import InvariantLearner
from remora.check.observe.context import PROPERTIES
from remora.check.observe.live import LiveCalls
from remora.check.observe.watchlist import public_functions
from remora.check.report import CheckReport, Violation, account, write_json
from remora.tap.job import Job
from remora.tap.service import Service


class LearnService(Service):
    """Watches the program broadly and writes what held of it throughout to a file."""

    name: ClassVar[str] = "learn"

    def __init__(self, path: Path, *, program: str = "", stderr: TextIO | None = None) -> None:
        self._path, self._program, self._stderr = path, program, stderr
        self._learner = InvariantLearner()

    def attach(self, job: Job) -> None:
        live = LiveCalls(job, self._learner)

        def begin() -> None:
            live.watch(public_functions())
            live.follow_steps(forwards=True)

        job.imports.subscribe("torch", begin)

    def finish(self) -> None:
        self._learner.run_ended(self._program)
        learned = self._learner.invariants()
        write_invariants(self._path, learned)
        steps = learned.header.sources[-1].steps
        _say(self._stderr, f"{len(learned.invariants)} invariants of {steps} steps in {self._path}")

    def detach(self) -> None:
        """Nothing but subscriptions, which the job ends."""


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


def _say(stderr: TextIO | None, text: str) -> None:
    stream = stderr or sys.stderr
    if stream is not None:
        stream.write(f"remora check: {text}\n")
        stream.flush()
