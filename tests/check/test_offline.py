"""Learning from recorded runs and checking them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from tests.check.stories import Story, Told, learned

from remora.check.invariants import HeldOut, Invariants
from remora.check.learner import InvariantLearner
from remora.check.offline import check_run, learn_from
from remora.check.report import CheckReport, Violation
from remora.check.trace.recorder import Recorder
from remora.check.traincheck.reading import Reading
from remora.core.errors import BadValue, TraceUnusable

Steps = Sequence[Sequence[Told | str]]
HEALTHY: Steps = [[Told("forward", ["linear", "relu"]), "step"]] * 5
_LACKING: Steps = [[Told("forward", ["linear"]), "step"]] * 3
NO_RELU: Steps = [*HEALTHY[:2], *_LACKING]


def record(folder: Path, steps: Steps, *, rank: int = 0, exit_code: int | None = 0) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / f"rank{rank}-pid{100 + rank}.jsonl"
    recorder = Recorder(path.open("wb", buffering=0), program=f"{folder.name}.py", rank=rank)
    story = Story(recorder)
    for step in steps:
        story.step(*step)
    recorder.run_ended(exit_code)
    recorder.close()
    return folder


def test_several_runs_are_learned_from_as_one(tmp_path: Path) -> None:
    a, b = record(tmp_path / "a", HEALTHY), record(tmp_path / "b", NO_RELU)
    taught = learn_from([a, b])

    assert list(taught.invariants.invariants) == learned(HEALTHY, NO_RELU)
    assert [source.program for source in taught.invariants.header.sources] == ["a.py", "b.py"]
    assert taught.invariants.header.torch == torch.__version__
    assert (taught.dropped, taught.remarks) == ((), ())


def test_what_fails_in_a_run_held_out_is_dropped_and_kept_account_of(tmp_path: Path) -> None:
    a, b = record(tmp_path / "a", HEALTHY), record(tmp_path / "b", NO_RELU)
    taught = learn_from([a], held_out=[b])

    [relu] = [one for one in learned(HEALTHY) if one.words() == "forward calls relu"]
    assert relu not in taught.invariants.invariants
    assert f"[{relu.name}] forward calls relu: it does not hold in step 2 of {b}: " in " ".join(
        one.line() for one in taught.dropped
    )
    [held] = taught.invariants.header.held_out
    assert (held.program, held.steps) == ("b.py", 5)
    assert set(held.dropped) == {one.name for one in taught.dropped}
    kept = {one.name for one in taught.invariants.invariants}
    assert kept == {one.name for one in learned(HEALTHY)} - set(held.dropped)
    assert learn_from(
        [a], held_out=[record(tmp_path / "c", HEALTHY)]
    ).invariants.header.held_out == (HeldOut(program="c.py", steps=5),)


def test_what_fails_in_a_run_it_was_learned_from_is_dropped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = record(tmp_path / "a", HEALTHY), record(tmp_path / "b", NO_RELU)
    real, wrong = InvariantLearner._of, learned(HEALTHY)
    monkeypatch.setattr(InvariantLearner, "_of", lambda *given: [*real(*given), *wrong])
    taught = learn_from([a, b])

    assert any("forward calls relu: it does not hold in step 2" in d.line() for d in taught.dropped)
    assert all(str(b) in one.why for one in taught.dropped)


def test_a_run_is_learned_from_or_held_out(tmp_path: Path) -> None:
    a = record(tmp_path / "a", HEALTHY)
    with pytest.raises(BadValue, match="is learned from and held out; hold out a run of its own"):
        learn_from([a], held_out=[tmp_path / "x" / ".." / "a"])


def test_how_a_run_ended_is_said(tmp_path: Path) -> None:
    failed, killed = record(tmp_path / "a", HEALTHY, exit_code=1), record(tmp_path / "b", HEALTHY)
    [file] = killed.iterdir()
    file.write_bytes(file.read_bytes()[:-6])

    assert learn_from([failed], held_out=[killed]).remarks == (
        f"{failed}: the recorded process ended with exit code 1; what it did until then counts",
        f"{killed}: the recorded process was killed, its last line cut short; "
        "what it did until then counts",
    )


def check(invariants: Invariants, folder: Path) -> tuple[CheckReport, list[Violation]]:
    report = check_run(Reading(invariants), folder, lambda _: None)[0]
    return report, report.violations


def test_a_check_of_a_trace_accounts_for_every_invariant(tmp_path: Path) -> None:
    learned_from = record(tmp_path / "a", [*HEALTHY, *[[Told("evaluate", ["accuracy"])]] * 3])
    invariants = learn_from([learned_from]).invariants
    report, told = check(invariants, record(tmp_path / "b", NO_RELU))

    assert (report.program, report.steps) == ("b.py", 5)
    [relu] = [one for one in told if one.expected == "forward calls relu"]
    assert (relu.step, relu.seen, relu.where, relu.count) == (2, "no call of relu", None, 3)
    named = {*report.passed, *report.not_triggered, *(one.invariant for one in told)}
    assert named == {one.name for one in invariants.invariants}
    assert report.not_triggered


def test_ranks_are_checked_each_and_accounted_for_together(tmp_path: Path) -> None:
    invariants = learn_from([record(tmp_path / "a", HEALTHY)]).invariants
    folder = record(tmp_path / "b", HEALTHY, rank=0)
    record(tmp_path / "b", NO_RELU, rank=1)
    record(tmp_path / "b", NO_RELU[:4], rank=2)
    report, told = check(invariants, folder)

    [relu] = [one for one in told if one.expected == "forward calls relu"]
    assert (relu.rank, relu.count) == (1, 5)
    assert report.steps == 5


def test_a_trace_that_is_none(tmp_path: Path) -> None:
    invariants = learn_from([record(tmp_path / "a", HEALTHY)]).invariants
    with pytest.raises(TraceUnusable, match="holds no trace"):
        check(invariants, tmp_path)
    with pytest.raises(TraceUnusable, match="holds no trace"):
        learn_from([tmp_path])
