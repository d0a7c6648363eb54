"""``python -m remora.experiments.silent_issues``: which silent issues are caught, and when.

TrainCheck (OSDI'25, section 6.1): 20 errors of real training jobs that raise nothing and show in no
single number. Each is a program of :mod:`remora.experiments.silent` with a healthy twin. Invariants
are learned from the twin under a few seeds; the faulty program is checked with them, and so is the
twin under a seed that was not learned from, whose every alarm is a false one. Misses are reported
as what they are.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec

from remora.check.report import CheckReport
from remora.core.files import write_atomically

PROGRAMS = Path(__file__).parent / "silent"
LEARNED_SEEDS = (0, 1, 2)
UNSEEN_SEED = 7
TIMEOUT_S = 300.0


class Case(msgspec.Struct, frozen=True):
    """One issue."""

    issue: str
    program: str
    ranks: int = 1
    from_step: int = 0
    """Where the fault begins to show in what the program does."""


CASES = (
    Case("pytorch-forum-84911", "all_frozen"),
    Case("stackoverflow-60335387", "no_zero_grad"),
    Case("accelerate-2665", "other_parameters"),
    Case("mmpretrain-702", "not_frozen"),
    Case("transformers-33844", "dropout_in_eval", from_step=8),
    Case("lightning-thunder-725", "no_autocast"),
    Case("transformers-17877", "initialised_twice"),
    Case("transformers-23723", "too_many_tokens"),
    Case("stackoverflow-67180955", "workers_share_seed"),
    Case("transformers-34204", "wrong_batch_shape"),
    Case("pytorch-51800", "spectral_norm_eval"),
    Case("pytorch-115607", "compiled_step_skipped", from_step=1),
    Case("pytorch-96600", "lost_between_ranks", ranks=2, from_step=12),
    Case("pytorch-84803", "lost_in_copy", ranks=2),
    Case("baichuan2-86", "lost_in_broadcast", ranks=2, from_step=12),
    Case("deepspeed-1801", "clipped_on_one_rank", ranks=2),
    Case("deepspeed-5794", "experts_disagree", ranks=2, from_step=1),
    Case("pytorch-104336", "hooks_lost", ranks=2),
    Case("x-jxmnop", "bare_module_trained", ranks=2),
)


class Outcome(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What became of one case."""

    issue: str
    program: str
    caught: bool
    step: int | None = None
    """The first step with a violation; None where there was none."""
    from_step: int
    relations: list[str] = []
    """Of the violated invariants, the first ones first."""
    first: str | None = None
    """The first violation, in words."""
    violated: int = 0
    invariants: int = 0
    false_alarms: int = 0
    """Invariants violated by the healthy twin under a seed not learned from."""
    trouble: str | None = None
    """Why there is no verdict, where there is none."""


def run_case(case: Case, folder: Path) -> Outcome:
    """Learn, check the faulty program, check its healthy twin; files go to ``folder``."""
    learned = folder / f"{case.program}.inv"
    try:
        for seed in LEARNED_SEEDS:
            _ride(case, ["--learn", str(learned)], ["--seed", str(seed)])
        faulty = _checked(case, learned, folder / f"{case.program}-faulty.json", ["--broken"])
        healthy = _checked(
            case, learned, folder / f"{case.program}-healthy.json", ["--seed", str(UNSEEN_SEED)]
        )
    except (subprocess.SubprocessError, OSError, msgspec.MsgspecError) as error:
        return Outcome(
            issue=case.issue, program=case.program, caught=False, from_step=case.from_step,
            trouble=_last_line(error),
        )  # fmt: skip
    return _outcome(case, faulty, healthy)


def _outcome(case: Case, faulty: CheckReport, healthy: CheckReport) -> Outcome:
    false = {one.invariant for one in healthy.violations}
    true = [one for one in faulty.violations if one.invariant not in false]
    return Outcome(
        issue=case.issue,
        program=case.program,
        caught=bool(true),
        step=min((one.step for one in true), default=None),
        from_step=case.from_step,
        relations=list(dict.fromkeys(one.relation for one in true)),
        first=f"{true[0].expected}; seen: {true[0].seen}" if true else None,
        violated=len(true),
        invariants=faulty.invariants,
        false_alarms=len(healthy.violations),
    )


def _checked(case: Case, learned: Path, report: Path, arguments: Sequence[str]) -> CheckReport:
    _ride(case, ["--check", str(learned), "--report", str(report)], arguments)
    return msgspec.json.decode(report.read_bytes(), type=CheckReport)


def _ride(case: Case, options: Sequence[str], arguments: Sequence[str]) -> None:
    script = str(PROGRAMS / f"{case.program}.py")
    remora = ["-m", "remora", "run", *options, script, *arguments]
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={case.ranks}"]
    command = [sys.executable, *(launcher if case.ranks > 1 else []), *remora]
    subprocess.run(command, check=True, capture_output=True, text=True, timeout=TIMEOUT_S)


def _last_line(error: BaseException) -> str:
    said = getattr(error, "stderr", None) or str(error)
    lines = (said if isinstance(said, str) else said.decode()).strip().splitlines()
    return lines[-1] if lines else type(error).__name__


def table(outcomes: Iterable[Outcome]) -> str:
    """The outcomes as a Markdown table."""
    rows = ["| issue | caught | at step | by | false alarms |", "| --- | --- | --- | --- | --- |"]
    for one in outcomes:
        verdict = one.trouble or ("yes" if one.caught else "**no**")
        step = "–" if one.step is None else f"{one.step} (fault from {one.from_step})"
        by = ", ".join(one.relations) or "–"
        rows.append(f"| {one.issue} | {verdict} | {step} | {by} | {one.false_alarms} |")
    return "\n".join(rows) + "\n"


def main(arguments: Sequence[str]) -> None:
    """Run the cases named by their programs, or all, and print the table."""
    chosen = [case for case in CASES if not arguments or case.program in arguments]
    folder = Path(tempfile.mkdtemp(prefix="remora-silent-issues-"))
    with ThreadPoolExecutor(2) as pool:
        outcomes = list(pool.map(lambda case: run_case(case, folder), chosen))
    write_atomically(folder / "outcomes.json", msgspec.json.encode(outcomes))
    print(table(outcomes))
    print(f"results in {folder}")


if __name__ == "__main__":
    main(sys.argv[1:])
