"""The experiment on false alarms, from its plan to its tables."""

from __future__ import annotations

from pathlib import Path

import pytest

from remora.experiments.false_alarms import CHECKED, LEARNED, PROGRAMS, Laboratory, Plan


def test_there_is_a_program_for_every_name() -> None:
    names = {file.stem for file in PROGRAMS.glob("*.py")} - {"__init__"}
    assert names == {*LEARNED, *CHECKED}
    assert len(CHECKED) == 12


@pytest.mark.parametrize("file", sorted(PROGRAMS.glob("[a-z]*.py")), ids=lambda file: file.stem)
def test_programs_know_nothing_of_remora(file: Path) -> None:
    assert "remora" not in file.read_text()


@pytest.mark.slow
def test_a_small_plan_from_end_to_end(tmp_path: Path) -> None:
    plan = Plan(lessons=(("gcn",),), checked=("regression", "nowhere"), varied=("regression",))
    outcome = Laboratory(plan, tmp_path).run()

    regression, nowhere, *variants = outcome.checks
    assert regression.counts.invariants == outcome.lessons[0].invariants > 20
    assert 0 < regression.counts.triggered < regression.counts.invariants
    assert regression.alarms == ()
    assert nowhere.trouble is not None
    assert "nowhere.py' does not exist" in nowhere.trouble
    assert [(one.run, one.counts.violated) for one in variants] == [
        ("own", 0), ("seed", 0), ("batch size", 0),
    ]  # fmt: skip
