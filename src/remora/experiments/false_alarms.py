"""``python -m remora.experiments.false_alarms``: how much of what is learned fails elsewhere.

TrainCheck (OSDI'25, section 6.4) learns from 1, 4 and 6 programs and checks 12 others, every one of
them healthy, so that each alarm is a false one. The programs of :mod:`remora.experiments.programs`
have the shapes of the published ones. Those learned from are recorded and learned from together,
which says more than to learn one after the other: the condition is found that tells them apart.

Besides, each program is held against what it has taught itself: in that very run, where nothing
may fail, and in clean variants of it, under another seed and with another batch size.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import msgspec

from remora.check.invariants import read_invariants
from remora.check.report import CheckReport
from remora.core.files import write_atomically
from remora.experiments.alarm_rates import Check, Lesson, Outcome, by_relation, markdown

PROGRAMS = Path(__file__).parent / "programs"
RANKS = {"ddp": 2}
"""Programs that torchrun starts, with so many processes."""
LEARNED = ("gcn", "mnist", "ddp", "autocast", "vae", "gat")
LESSONS = (LEARNED[:1], LEARNED[:4], LEARNED)
CHECKED = (
    "dcgan", "mnist_forward_forward", "mnist_hogwild", "mnist_rnn", "regression", "actor_critic",
    "reinforce", "resnet18", "siamese", "time_sequence_prediction", "word_lm_lstm",
    "word_lm_transformer",
)  # fmt: skip
VARIANTS = {"seed": ("--seed", "7"), "batch size": ("--seed", "3", "--batch-size", "12")}
"""By what is another: the arguments."""
TIMEOUT_S = 600.0
AT_ONCE = 2


class Plan(msgspec.Struct, frozen=True):
    """What is learned from and checked."""

    lessons: tuple[tuple[str, ...], ...] = LESSONS
    checked: tuple[str, ...] = CHECKED
    varied: tuple[str, ...] = (*LEARNED, *CHECKED)
    """Programs held against themselves."""

    def recorded(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys([*(one for lesson in self.lessons for one in lesson),
                                    *self.varied]))  # fmt: skip


class Laboratory:
    """Runs the plan; everything that it makes lies in ``folder``."""

    def __init__(self, plan: Plan, folder: Path) -> None:
        self._plan, self._folder = plan, folder
        self._troubles: dict[str, str] = {}
        """By program, why there is no trace of it."""

    def run(self) -> Outcome:
        plan = self._plan
        _all(self._record, plan.recorded())
        alone = [(name,) for name in plan.varied]
        lessons = _all(self._learn, dict.fromkeys([*plan.lessons, *alone]))
        foreign = [(lesson, name) for lesson in plan.lessons for name in plan.checked]
        varied = [(name, run) for name in plan.varied for run in ("own", *VARIANTS)]
        checks = [
            *_all(lambda one: self._check_other(*one), foreign),
            *_all(lambda one: self._check_variant(*one), varied),
        ]
        return Outcome(lessons=tuple(lessons), checks=tuple(checks))

    # ------------------------------------------------------------ parts

    def _record(self, name: str) -> None:
        try:
            ride(name, ["--record", str(self._trace(name))])
        except _FAILURES as error:
            self._troubles[name] = in_a_line(error)

    def _learn(self, names: tuple[str, ...]) -> Lesson:
        traces = [str(self._trace(name)) for name in names]
        trouble = next((self._troubles[name] for name in names if name in self._troubles), None)
        if trouble is not None:
            return Lesson(learned_from=names, trouble=trouble)
        begun = time.monotonic()
        said = remora(["learn", "--output", str(self._learned(names)), *traces])
        seconds = time.monotonic() - begun
        dropped = tuple(line for line in said.splitlines() if "dropped [" in line)
        invariants = len(read_invariants(self._learned(names)).invariants)
        return Lesson(learned_from=names, invariants=invariants, seconds=seconds, dropped=dropped)

    def _check_other(self, lesson: tuple[str, ...], name: str) -> Check:
        report = self._folder / "reports" / f"{name}-by-{len(lesson)}.json"
        check = ["--check", str(self._learned(lesson)), "--report", str(report)]
        return self._told(lesson, name, "other", report, lambda: ride(name, check))

    def _check_variant(self, name: str, run: str) -> Check:
        report = self._folder / "reports" / f"{name}-{run.replace(' ', '-')}.json"
        learned, trace = str(self._learned((name,))), str(self._trace(name))
        check = ["--check", learned, "--report", str(report)]
        if run == "own":
            again = ["check", learned, trace, "--report", str(report)]
            return self._told((name,), name, run, report, lambda: remora(again, may_find=True))
        return self._told((name,), name, run, report, lambda: ride(name, check, VARIANTS[run]))

    def _told(
        self, lesson: tuple[str, ...], name: str, run: str, report: Path, make: Callable[[], object]
    ) -> Check:
        """What the check that ``make`` writes to ``report`` came to."""
        report.parent.mkdir(exist_ok=True)
        try:
            make()
            found = msgspec.json.decode(report.read_bytes(), type=CheckReport)
        except _FAILURES as error:
            return Check(program=name, learned_from=lesson, run=run, trouble=in_a_line(error))
        invariants = read_invariants(self._learned(lesson)).invariants
        return Check(
            program=name,
            learned_from=lesson,
            run=run,
            by_relation=by_relation(invariants, found),
            alarms=tuple(f"{one.expected}; seen: {one.seen}" for one in found.violations),
        )

    def _trace(self, name: str) -> Path:
        return self._folder / "traces" / name

    def _learned(self, names: tuple[str, ...]) -> Path:
        return self._folder / "learned" / f"{'+'.join(names)}.inv"


_FAILURES = (subprocess.SubprocessError, OSError, msgspec.MsgspecError)


def ride(name: str, options: Sequence[str], arguments: Sequence[str] = ()) -> None:
    """Run a program with services aboard.

    Raises:
        SubprocessError: it failed, or took too long.
    """
    run = ["run", *options, str(PROGRAMS / f"{name}.py"), *arguments]
    ranks = RANKS.get(name, 1)
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"]
    remora(run, launcher if ranks > 1 else [])


def remora(
    arguments: Sequence[str], launcher: Sequence[str] = (), *, may_find: bool = False
) -> str:
    """Run Remora; what it said. With ``may_find``, exit code 1 is no failure.

    Raises:
        SubprocessError: it failed, or took too long.
    """
    command = [sys.executable, *launcher, "-m", "remora", *arguments]
    threads = {"OMP_NUM_THREADS": "1", **os.environ}
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, env=threads)
    if done.returncode not in ((0, 1) if may_find else (0,)):
        raise subprocess.CalledProcessError(done.returncode, done.args, done.stdout, done.stderr)
    return done.stdout + done.stderr


def in_a_line(error: BaseException) -> str:
    """The last thing that what failed has said."""
    said = getattr(error, "stderr", None) or str(error)
    lines = (said if isinstance(said, str) else said.decode()).strip().splitlines()
    return lines[-1].replace("|", "/") if lines else type(error).__name__


Given = TypeVar("Given")
Made = TypeVar("Made")


def _all(make: Callable[[Given], Made], each: Iterable[Given]) -> list[Made]:
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(make, each))


def main(arguments: Sequence[str]) -> None:
    """Run everything and write ``false_alarms.json`` and ``false_alarms.md``."""
    parser = argparse.ArgumentParser(prog="python -m remora.experiments.false_alarms")
    parser.add_argument("--out", type=Path, help="folder for all that is made; else a new one")
    parser.add_argument(
        "--no-variants", action="store_true", help="leave out the checks of programs by themselves"
    )
    given = parser.parse_args(arguments)
    folder = given.out or Path(tempfile.mkdtemp(prefix="remora-false-alarms-"))
    plan = Plan(varied=()) if given.no_variants else Plan()
    outcome = Laboratory(plan, folder).run()
    shown = markdown(outcome)
    encoded = msgspec.json.format(msgspec.json.encode(outcome), indent=1)
    write_atomically(folder / "false_alarms.json", encoded + b"\n")
    write_atomically(folder / "false_alarms.md", shown.encode())
    print(shown)
    print(f"results in {folder}")


if __name__ == "__main__":
    main(sys.argv[1:])
