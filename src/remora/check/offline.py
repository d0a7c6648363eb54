"""Learn from recorded runs, and check them: what riding along does, when the run is long over."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from remora.check.checker import Checker
from remora.check.findings import Findings
from remora.check.invariants import HeldOut, Invariants
from remora.check.learner import InvariantLearner
from remora.check.ranks.meeting import Room
from remora.check.report import CheckReport, Violation, account
from remora.check.sink import Sink
from remora.check.trace.layout import files_of, rank_of
from remora.check.trace.replay import Replayed, replay
from remora.check.validation import Dropped, Run, Validated, validate
from remora.core.errors import BadValue


@dataclass(frozen=True)
class Recorded:
    """One process's file of a trace."""

    path: Path
    called: str
    """As the user knows it: the folder, or the file where it holds several."""

    def play(self, sink: Sink) -> Replayed:
        return replay(self.path, sink)


def jobs(folders: Iterable[Path]) -> list[list[Recorded]]:
    """The traces in ``folders``, each every process of one job.

    Raises:
        TraceUnusable: a folder holds none.
    """
    return [_of_folder(folder) for folder in folders]


def _of_folder(folder: Path) -> list[Recorded]:
    files = files_of(folder)
    if len(files) == 1:
        return [Recorded(files[0], str(folder))]
    return [Recorded(path, str(path)) for path in files]


def runs_of(recorded: Iterable[list[Recorded]]) -> list[Run]:
    """The processes of each job, as ranks that meet where there are several.

    Not of a job whose ranks were started anew: which of their files go together is not known.
    """
    runs = []
    for job in recorded:
        ranks = [rank_of(one.path) for one in job]
        room = Room(len(job)) if len(set(ranks)) == len(job) > 1 else None
        runs += [
            Run(one.called, one.play, rank, room.seat(rank) if room is not None else None)
            for rank, one in zip(ranks, job, strict=True)
        ]
    return runs


@dataclass(frozen=True)
class Taught:
    invariants: Invariants
    dropped: tuple[Dropped, ...]
    remarks: tuple[str, ...]
    """What the user should know of the runs: one was killed, say."""


def learn_from(folders: Sequence[Path], held_out: Sequence[Path] = ()) -> Taught:
    """Learn from all recorded runs together; drop what fails in one of them or is held out.

    Raises:
        BadValue: a run is learned from and held out.
        TraceUnusable: a folder holds no trace, or a damaged one.
    """
    _check_apart(folders, held_out)
    training, healthy = jobs(folders), jobs(held_out)
    learner = InvariantLearner()
    replayed = [learn_run(learner, run) for run in runs_of(training)]
    own = validate(_of_torch(learner.invariants(), replayed), runs_of(training))
    others = validate(own.kept, runs_of(healthy))
    tried = [one.run for one in others.trials]
    remarks = [
        _remark(*one) for one in zip(runs_of(training + healthy), replayed + tried, strict=True)
    ]
    return Taught(
        _saying_what_was_held_out(others),
        own.dropped + others.dropped,
        tuple(one for one in remarks if one is not None),
    )


def learn_run(learner: InvariantLearner, run: Run) -> Replayed:
    """Feed ``run``, or one rank of it, to ``learner``; what was played."""
    if run.meeting is not None:
        learner.join(run.meeting)
    played = run.play(learner)
    learner.run_ended(played.header.program)
    return played


def check_run(
    invariants: Invariants, folder: Path, announce: Callable[[Violation], object]
) -> tuple[CheckReport, tuple[str, ...]]:
    """Check the recorded run in ``folder``, all its ranks; the report, and remarks on the run.

    Raises:
        TraceUnusable: it holds no trace, or a damaged one.
    """
    findings = Findings(announce, where=lambda: None)
    judged = [0] * len(invariants.invariants)
    replayed, remarks = [], []
    for run in runs_of(jobs([folder])):
        checker = Checker(invariants.invariants, findings.add)
        findings.rank = run.rank
        if run.meeting is not None:
            checker.join(run.meeting)
        replayed.append(run.play(checker))
        judged = [
            so_far + rule.triggered for so_far, rule in zip(judged, checker.rules, strict=True)
        ]
        remarks.append(_remark(run, replayed[-1]))
    report = account(
        ", ".join(dict.fromkeys(one.header.program for one in replayed)),
        max(one.steps for one in replayed),
        list(zip(invariants.invariants, judged, strict=True)),
        findings.violations,
        {},
    )
    return report, tuple(one for one in remarks if one is not None)


def _check_apart(folders: Iterable[Path], held_out: Iterable[Path]) -> None:
    learned = {folder.resolve() for folder in folders}
    for folder in held_out:
        if folder.resolve() in learned:
            raise BadValue(f"{folder} is learned from and held out; hold out a run of its own")


def _of_torch(invariants: Invariants, runs: Iterable[Replayed]) -> Invariants:
    """The version that the runs had, not that of this process, which may have none."""
    versions = dict.fromkeys(one.header.torch for one in runs if one.header.torch)
    header = msgspec.structs.replace(invariants.header, torch=", ".join(versions) or None)
    return msgspec.structs.replace(invariants, header=header)


def _saying_what_was_held_out(validated: Validated) -> Invariants:
    kept = validated.kept
    held_out = tuple(
        HeldOut(
            program=trial.run.header.program,
            steps=trial.run.steps,
            dropped=tuple(one.name for one in trial.dropped),
        )
        for trial in validated.trials
    )
    header = msgspec.structs.replace(kept.header, held_out=held_out)
    return msgspec.structs.replace(kept, header=header)


def _remark(run: Run, played: Replayed) -> str | None:
    """What of ``played`` may surprise: how it ended."""
    if played.ended and not played.exit_code:
        return None
    cut = ", its last line cut short" if played.cut else ""
    how = f"ended with exit code {played.exit_code}" if played.ended else f"was killed{cut}"
    return f"{run.called}: the recorded process {how}; what it did until then counts"
