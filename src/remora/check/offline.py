"""Learn from recorded runs, and check them: what riding along does, when the run is long over."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from remora.check.announcing import Announcer
from remora.check.checker import Checker
from remora.check.findings import Findings
from remora.check.invariants import HeldOut, Invariants
from remora.check.learner import InvariantLearner
from remora.check.ranks.meeting import Meeting
from remora.check.recorded import Played, Recorded, runs_in
from remora.check.report import CheckReport, account
from remora.check.traincheck.reading import Reading, read_any
from remora.check.validation import Dropped, Healthy, Validated, validate
from remora.core.errors import BadValue


@dataclass(frozen=True)
class Taught:
    invariants: Invariants
    dropped: tuple[Dropped, ...]
    remarks: tuple[str, ...]
    """What the user should know of the runs: one was killed, say."""


def read_for_traces(path: Path) -> Reading:
    """The invariants at ``path``, ours or TrainCheck's, to be checked against recorded runs.

    Raises:
        InvariantsUnusable: it is not there, of neither kind, or damaged; the line is named.
    """
    reading = read_any(path)
    if reading.traincheck:
        import torch  # noqa: F401  names the parameters that their files count

        reading = read_any(path)
    return reading


def learn_from(folders: Sequence[Path], held_out: Sequence[Path] = ()) -> Taught:
    """Learn from all recorded runs together; drop what fails in one of them or is held out.

    Raises:
        BadValue: a run is learned from and held out.
        TraceUnusable: a folder holds no trace, or a damaged one.
    """
    _check_apart(folders, held_out)
    learner = InvariantLearner()
    replayed = [_learn(learner, *one) for one in runs_in(folders)]
    own = validate(_of_torch(learner.invariants(), replayed), _healthy(folders))
    others = validate(own.kept, _healthy(held_out))
    return Taught(
        _saying_what_was_held_out(others),
        own.dropped + others.dropped,
        _remarks([*replayed, *(trial.run for trial in others.trials)]),
    )


def _learn(learner: InvariantLearner, run: Recorded, meeting: Meeting | None) -> Played:
    if meeting is not None:
        learner.join(meeting)
    played = run.play(learner)
    learner.run_ended(played.program, run.rank)
    return played


def check_run(
    reading: Reading, place: Path, say: Callable[[str], object]
) -> tuple[CheckReport, tuple[str, ...]]:
    """Check the run recorded at ``place``, all its ranks; the report, and remarks on the run.

    Args:
        say: told what is found when it is found, as a user is.

    Raises:
        TraceUnusable: there is no trace, or a damaged one.
    """
    runs = runs_in([place])
    announcer = Announcer(say, names_rank=any(run.rank for run, _ in runs))
    findings = Findings(announcer.found, where=lambda: None)
    invariants = reading.invariants.invariants
    judged = [0] * len(invariants)
    replayed = []
    for run, meeting in runs:
        checker = Checker(invariants, findings.add, announcer.step_ended)
        if meeting is not None:
            checker.join(meeting)
        findings.rank = run.rank
        replayed.append(run.play(checker))
        judged = [
            so_far + rule.triggered for so_far, rule in zip(judged, checker.rules, strict=True)
        ]
    announcer.ended()
    report = account(
        ", ".join(dict.fromkeys(one.program for one in replayed)),
        max(one.steps for one in replayed),
        list(zip(invariants, judged, strict=True)),
        findings.violations,
        not_checked=reading.not_checked(live=False),
        checked_in_part=reading.checked_in_part(),
    )
    return report, _remarks(replayed)


def _remarks(runs: Iterable[Played]) -> tuple[str, ...]:
    return tuple(remark for one in runs for remark in one.remarks)


def _healthy(places: Iterable[Path]) -> list[Healthy[Played]]:
    return [Healthy(run.called, run.play, meeting) for run, meeting in runs_in(places)]


def _check_apart(folders: Iterable[Path], held_out: Iterable[Path]) -> None:
    learned = {folder.resolve() for folder in folders}
    for folder in held_out:
        if folder.resolve() in learned:
            raise BadValue(f"{folder} is learned from and held out; hold out a run of its own")


def _of_torch(invariants: Invariants, runs: Iterable[Played]) -> Invariants:
    """The version that the runs had, not that of this process, which may have none."""
    versions = dict.fromkeys(one.torch for one in runs if one.torch)
    header = msgspec.structs.replace(invariants.header, torch=", ".join(versions) or None)
    return msgspec.structs.replace(invariants, header=header)


def _saying_what_was_held_out(validated: Validated[Played]) -> Invariants:
    kept = validated.kept
    held_out = tuple(
        HeldOut(
            program=trial.run.program,
            steps=trial.run.steps,
            dropped=tuple(one.name for one in trial.dropped),
        )
        for trial in validated.trials
    )
    header = msgspec.structs.replace(kept.header, held_out=held_out)
    return msgspec.structs.replace(kept, header=header)
