"""One case after another: record healthy runs, learn from them, check the faulty program.

A healthy run is recorded once, though several cases learn from it.
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import msgspec

from remora.check.invariants import write_invariants
from remora.check.offline import learn_from
from remora.check.report import CheckReport, Violation
from remora.check.services import CheckService, RecordService
from remora.core.errors import RemoraError
from remora.core.files import write_atomically
from remora.experiments.silent_issues.cases import Case, others
from remora.experiments.silent_issues.outcome import Outcome, judged, without_verdict
from remora.experiments.silent_issues.rides import RideFailed, Rides
from remora.tap.service import Service

PROGRAMS = Path(__file__).parents[1] / "silent"
LEARNED_SEEDS = (0, 1, 2)
FAULTY_SEED = 0
UNSEEN_SEED = 7
AGAIN = (("--seed", "3"), ("--seed", "4"), ("--seed", "5"), ("--hidden", "48"))
"""Other ways to run the faulty program, to see that a catch is no chance."""
AT_ONCE = 2


class Gallery:
    """Runs cases; files go to ``folder``, each outcome as soon as it is known.

    Args:
        seeds: of the healthy twin, to learn from.
        with_others: learn from other healthy programs as well.
        again: check the faulty program in the ways of :data:`AGAIN` too.
    """

    def __init__(
        self,
        folder: Path,
        *,
        seeds: Sequence[int] = LEARNED_SEEDS,
        with_others: bool = True,
        again: bool = False,
    ) -> None:
        self._folder, self._rides, self._again = folder, Rides(), again
        self._seeds, self._with_others = tuple(seeds), with_others
        self._recording: dict[Path, threading.Lock] = defaultdict(threading.Lock)

    def run(
        self, cases: Sequence[Case], tell: Callable[[Outcome], object] = lambda _: None
    ) -> list[Outcome]:
        """The outcomes, in the order of ``cases``; ``tell`` is called with each as it comes."""

        def run(case: Case) -> Outcome:
            outcome = self.run_case(case)
            tell(outcome)
            return outcome

        with ThreadPoolExecutor(AT_ONCE) as pool:
            return list(pool.map(run, cases))

    def run_case(self, case: Case) -> Outcome:
        begun = time.monotonic()
        folder = self._folder / case.program
        folder.mkdir(parents=True, exist_ok=True)
        try:
            learned = self._learned(case, folder)
            faulty = self._checked(case, learned, folder / "faulty", "--broken")
            healthy = self._checked(case, learned, folder / "healthy", "--seed", str(UNSEEN_SEED))
            again = [self._caught(case, learned, healthy, *way) for way in self._ways]
        except (RideFailed, RemoraError, OSError, msgspec.MsgspecError) as error:
            return without_verdict(case, str(error))
        outcome = judged(
            case, _violations(faulty), _violations(healthy),
            invariants=faulty[0].invariants, seconds=time.monotonic() - begun,
        )  # fmt: skip
        outcome.again = again
        write_atomically(folder / "outcome.json", msgspec.json.encode(outcome))
        return outcome

    @property
    def _ways(self) -> tuple[tuple[str, ...], ...]:
        return AGAIN if self._again else ()

    def _caught(
        self, case: Case, learned: Path, healthy: list[CheckReport], *arguments: str
    ) -> bool:
        """Whether the faulty program, run with ``arguments``, is caught."""
        report = self._folder / case.program / f"faulty{''.join(arguments)}"
        faulty = self._checked(case, learned, report, "--broken", *arguments)
        return judged(case, _violations(faulty), _violations(healthy), invariants=0).caught

    def _learned(self, case: Case, folder: Path) -> Path:
        traces = [self._recorded(case, seed) for seed in self._seeds]
        if self._with_others:
            traces += [self._recorded(other, self._seeds[0]) for other in others(case)]
        path = folder / "healthy.inv"
        write_invariants(path, learn_from(traces).invariants)
        return path

    def _recorded(self, case: Case, seed: int) -> Path:
        trace = self._folder / case.program / f"seed{seed}"
        with self._recording[trace]:
            if not trace.exists():
                trace.parent.mkdir(parents=True, exist_ok=True)
                aboard = partial(_recording, trace, case.program, case.watch)
                self._ride(case, aboard, trace.with_suffix(".log"), "--seed", str(seed))
        return trace

    def _checked(
        self, case: Case, learned: Path, report: Path, *arguments: str
    ) -> list[CheckReport]:
        """The reports of the ranks; of the first alone, where it writes for all."""
        self._ride(case, partial(_checking, learned, report), report, *arguments)
        files = [_report_of(report, rank) for rank in range(case.ranks)]
        return [
            msgspec.json.decode(file.read_bytes(), type=CheckReport)
            for file in files
            if file.exists() or file is files[0]
        ]

    def _ride(
        self, case: Case, aboard: Callable[[int], Service], log: Path, *arguments: str
    ) -> None:
        script = str(PROGRAMS / f"{case.program}.py")
        self._rides.ride([script, *arguments], aboard, log, case.ranks)


def _recording(trace: Path, program: str, watch: tuple[str, ...], rank: int) -> Service:
    return RecordService(trace, program=program, watch=watch)


def _checking(learned: Path, report: Path, rank: int) -> Service:
    return CheckService(learned, reports=(_report_of(report, rank),))


def _report_of(report: Path, rank: int) -> Path:
    return report.with_suffix(f".rank{rank}.json")


def _violations(reports: Sequence[CheckReport]) -> list[Violation]:
    """Of all ranks, in the order of steps."""
    return sorted((one for each in reports for one in each.violations), key=lambda one: one.step)
