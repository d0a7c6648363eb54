"""What a system needs once for a workload is made once, apart from every trial."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import msgspec
import pytest
from tests.lab.builders import make_plan
from tests.systems.builders import TinySession

from remora.lab import measure
from remora.lab.analysis import analyse_folder
from remora.lab.conduct import Conductor
from remora.lab.executors.in_process import InProcessExecutor
from remora.lab.folder import Folder
from remora.lab.results import Plan, Trial
from remora.lab.trial_runner import TrialRunner
from remora.systems import registry
from remora.systems.contract import Another, Ride, System
from remora.workloads.contract import Session

made: list[str] = []


class _CountingRide(Ride):
    def __init__(self, session: Session, note: str) -> None:
        super().__init__(session)
        self.note = note

    def counts(self) -> dict[str, float]:
        return {"letters": len(self.note)}


@dataclass(frozen=True)
class Prepared(System):
    """Needs a note of the weights of another session of the workload."""

    name: ClassVar[str] = "prepared"
    title: ClassVar[str] = "a system that needs a note"
    fails: bool = False
    note: str = ""

    def preparation(self) -> str:
        return "note"

    def prepare(self, another: Another, kept: Path) -> None:
        made.append(kept.parent.name)
        if self.fails:
            raise ValueError("no ink")
        (kept / "note").write_text(another(1).step().digest)

    def prepared(self, kept: Path) -> System:
        return Prepared(note=(kept / "note").read_text())

    def ride(self, session: Session, directory: Path) -> Ride:
        return _CountingRide(session, self.note)


@pytest.fixture(autouse=True)
def _tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    made.clear()
    real = registry.create
    monkeypatch.setattr(
        registry,
        "create",
        lambda name, options=None: Prepared(**options) if name == "prepared" else real(name),
    )
    monkeypatch.setattr(measure, "build_session", lambda spec, device: TinySession(spec.seed))


@pytest.fixture
def conduct(tmp_path: Path) -> Callable[[Plan], Folder]:
    def run(plan: Plan) -> Folder:
        short = [msgspec.structs.replace(spec, seconds=0.001) for spec in plan.trials]
        folder = Folder.create(tmp_path / "results", msgspec.structs.replace(plan, trials=short))
        Conductor(folder, TrialRunner(folder, InProcessExecutor())).run()
        return folder

    return run


def _of(folder: Folder, label: str) -> list[Trial]:
    return [trial for trial in folder.trials()[0] if trial.spec.arm.label == label]


def test_it_is_made_once_for_each_workload_and_every_trial_has_it(
    conduct: Callable[[Plan], Folder],
) -> None:
    folder = conduct(make_plan(systems=("prepared",), workloads=("one", "two"), blocks=2))
    assert sorted(made) == ["one", "two"]
    trials = _of(folder, "prepared")
    assert len(trials) == 4
    note = (folder.prepared_path / "one" / "note" / "note").read_text()
    assert note == TinySession(seed=1).step().digest
    assert all(trial.counts == {"letters": len(note)} for trial in trials)


def test_what_it_took_is_start_up_of_the_arms_that_need_it(
    conduct: Callable[[Plan], Folder],
) -> None:
    folder = conduct(make_plan(systems=("prepared",), workloads=("one",), blocks=2))
    analysis, _ = analyse_folder(folder)
    cells = {cell.arm.label: cell for cell in analysis.cells}
    assert cells["prepared"].start_up_ms["prepare"].min > 0
    assert cells["prepared"].counts["letters"].count == 2
    assert "prepare" not in cells["native"].start_up_ms
    assert cells["native"].counts == {}


def test_where_it_cannot_be_made_that_arm_fails_and_no_other(
    conduct: Callable[[Plan], Folder],
) -> None:
    plan = make_plan(systems=("prepared",), workloads=("one",), blocks=2)
    broken = [
        msgspec.structs.replace(
            spec, arm=msgspec.structs.replace(spec.arm, options={"fails": True})
        )
        if spec.arm.system == "prepared"
        else spec
        for spec in plan.trials
    ]
    folder = conduct(msgspec.structs.replace(plan, trials=broken))
    failures = [trial.failure for trial in _of(folder, "prepared")]
    assert [f.message for f in failures if f] == ["ValueError: no ink"] * 2
    assert all(trial.failure is None for trial in _of(folder, "native"))
    assert not list((folder.prepared_path / "one").glob("note"))
