"""TrainCheck's files and folders given to our commands as they are."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.check.traincheck.lines import api, file_of, line
from tests.check.traincheck.published import published
from tests.check.traincheck.test_replay import begin, both, end, trace
from tests.cli.commands import Command

COVER = line(
    "FunctionCoverRelation", api("app.freeze"), api("torch.nn.modules.module.Module.train"),
    group="func_cover",
)  # fmt: skip
TELEPATHY = line("FunctionTelepathyRelation", api("app.freeze"), api("app.train"))
TRAIN = "torch.nn.modules.module.Module.train"


@pytest.fixture
def theirs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with their invariants, a trace that keeps to them, and one that does not."""
    monkeypatch.chdir(tmp_path)
    file_of(tmp_path / "invariants.json", COVER, TELEPATHY)
    for name, records in (
        ("good", [*both("app.freeze", 1), *both(TRAIN, 3)]),
        ("bad", [*both("app.freeze", 1), *both(TRAIN, 3), begin(TRAIN, 5, step=1)]),
    ):
        (tmp_path / name).mkdir()
        trace(tmp_path / name, records)
    return tmp_path


def test_their_invariants_are_checked_against_their_traces(theirs: Path, command: Command) -> None:
    code, shown, _ = command("check", "invariants.json", "good", "bad")

    assert code == 1
    unread, kept, *said = shown.splitlines()
    assert unread.startswith("[line 2] is not checked: FunctionTelepathyRelation told: Remora has")
    assert kept == ("good: 2 invariants over 1 step: 1 passed, 0 not triggered, 1 not checked")
    assert said[0].startswith("step 1: an invariant does not hold [")
    assert said[1].endswith("torch.nn.Module.train is called only after app.freeze, each time anew")
    assert said[-2:] == [
        "bad: 1 calls never ended, and are judged by nothing",
        "bad: 2 invariants over 2 steps: 1 violated, 0 passed, 0 not triggered, 1 not checked",
    ]


def test_every_line_of_theirs_is_accounted_for(theirs: Path, command: Command) -> None:
    assert command("check", "invariants.json", "good", "--report", "found.json")[0] == 0

    report = json.loads(Path("found.json").read_text())
    assert report["invariants"] == 2
    assert [len(report[name]) for name in ("passed", "not_triggered", "violations")] == [1, 0, 0]
    [unread] = report["not_checked"]
    assert (unread["invariant"], unread["expected"]) == ("line 2", TELEPATHY["text_description"])
    assert "FunctionTelepathyRelation" in unread["reason"]


def test_their_invariants_are_shown(theirs: Path, command: Command) -> None:
    code, shown, _ = command("invariants", "show", "invariants.json")

    assert code == 0
    assert shown.startswith("1 invariant of TrainCheck's\n\ncover: 1\n  ")
    assert shown.splitlines()[-1].startswith("line 2 not taken over: FunctionTelepathyRelation")


def test_their_traces_teach(theirs: Path, command: Command) -> None:
    for name in ("a", "b"):
        (theirs / name).mkdir()
        trace(theirs / name, [
            record
            for at in range(0, 60, 10)
            for record in (begin("app.f", at, step=at // 10), *both("app.g", at + 1, step=at // 10),
                           end("app.f", at + 4, step=at // 10))
        ])  # fmt: skip

    code, shown, _ = command("learn", "-o", "healthy.inv", "a", "--held-out", "b")
    assert code == 0
    assert "held out b (6 steps): 0 dropped" in shown
    assert "app.f calls app.g" in command("invariants", "show", "healthy.inv")[1]
    assert command("check", "healthy.inv", "b")[0] == 0
    assert command("check", "healthy.inv", "good")[0] == 0


@pytest.mark.parametrize("name", ["mmpretrain-702", "transformers-17877"])
def test_published_issues_are_found_by_the_command(name: str, command: Command) -> None:
    case = published(name)
    code, shown, _ = command("check", case / "invariants.json", case)

    assert code == 1
    assert shown.splitlines()[-1].endswith("1 violated, 0 passed, 0 not triggered")
