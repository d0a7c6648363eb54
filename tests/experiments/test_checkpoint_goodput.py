"""Goodput from measured throughputs: points by name, the trace replayed, the figure drawn."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import msgspec
import pytest
from tests.lab.checkpoint_results import STEP_MS, checkpoint_plan, checkpoint_trial

from remora.checkpoint.goodput import Reading, Trace, synthetic_trace
from remora.cli import main
from remora.core.errors import BadValue
from remora.experiments import registry
from remora.experiments.goodput_report import (
    SCHEMES,
    Scenario,
    goodput_rows,
    measured_lines,
)
from remora.lab.analysis import analyse
from remora.lab.environment import capture
from remora.lab.folder import Folder
from remora.lab.report import render
from remora.lab.report.tables import arm_rows, by_workload
from remora.lab.results import Analysis, EnvironmentPair
from remora.systems import registry as systems

MACHINE = EnvironmentPair(before=capture(1), after=capture(1))
QUIET = Trace("nothing happens", (Reading(0.0, 4), Reading(36_000.0, 4)))
STORMY = synthetic_trace(seed=3, hours=10, mtbf_s=900)


@pytest.fixture(scope="module")
def analysis() -> Analysis:
    plan = checkpoint_plan()
    return analyse(plan, MACHINE, [checkpoint_trial(spec) for spec in plan.trials])


def test_every_checkpointing_system_has_a_scheme() -> None:
    wanted = {name for name in systems.names() if "every" in systems.create(name).settings()}
    assert set(SCHEMES) == wanted


def test_points_are_the_measured_ones(analysis: Analysis) -> None:
    rows = by_workload(arm_rows(analysis))["small"]
    lines = {line.label: line for line in measured_lines(rows)}
    assert set(lines) == {"torch-save", "dcp-async", "remora-checkpoint"}
    saved = lines["torch-save"].points
    assert [point.every for point in saved] == [1, 5, 10]
    assert saved[0].throughput < saved[1].throughput < saved[2].throughput < 1
    assert saved[0].write_s == pytest.approx(0.311, rel=0.01)
    assert {point.in_flight for point in lines["remora-checkpoint"].points} == {1, 2}


def test_without_failures_goodput_is_throughput(analysis: Analysis) -> None:
    for row in goodput_rows(analysis, Scenario(QUIET))["small"]:
        assert row.replay_share == pytest.approx(row.throughput, rel=0.01)
        assert row.lost_steps == 0


def test_failures_cost_more_the_rarer_checkpoints_are(analysis: Analysis) -> None:
    rows = goodput_rows(analysis, Scenario(STORMY, load_s=5.0, restart_s=30.0))["small"]
    ideal = {row.every: row for row in rows if row.label == "ideal"}
    assert ideal[1].lost_steps < ideal[5].lost_steps < ideal[10].lost_steps
    ours = [row for row in rows if row.label == "remora-checkpoint" and row.every == 1]
    saved = next(row for row in rows if row.label == "torch-save" and row.every == 1)
    assert all(row.replay_share > 2 * saved.replay_share for row in ours)
    assert all(row.replay_share < ideal[1].replay_share for row in ours)


@pytest.mark.slow  # draws every figure twice
def test_the_report_has_a_table_and_the_figure_in_three_forms(tmp_path: Path) -> None:
    plan = msgspec.structs.replace(checkpoint_plan(), experiment="checkpoint-goodput")
    trials = [checkpoint_trial(spec) for spec in plan.trials]
    analysis = analyse(plan, MACHINE, trials)
    rendered = render(tmp_path, analysis, trials, registry.figures(plan.experiment))
    names = {path.name for path in rendered.figures}
    assert {"goodput.pdf", "goodput.png", "goodput.svg", "throughput.pdf"} <= names
    (table,) = (path for path in rendered.curves if path.name == "goodput.csv")
    rows = list(csv.DictReader(io.StringIO(table.read_text())))
    assert {row["workload"] for row in rows} == {"small", "large"}
    assert {row["synthetic"] for row in rows} == {"true"}
    page = rendered.page.read_text()
    assert "Goodput against the interval" in page
    assert "under a synthetic trace" in page
    assert STEP_MS == 250.0


def test_a_recorded_trace_is_replayed_over_the_same_results(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = checkpoint_plan()
    folder = Folder.create(tmp_path / "results", plan)
    folder.write_environment(MACHINE)
    for spec in plan.trials:
        folder.write_trial(checkpoint_trial(spec))
    trace = tmp_path / "trace.csv"
    trace.write_text(",Time,GPUs\n0,0,8\n1,600,4\n2,1200,8\n3,3600,8\n")
    arguments = [str(tmp_path / "results"), "--trace", str(trace), "--out", str(tmp_path / "out")]
    with pytest.raises(SystemExit) as exited:
        main(["checkpoint", "goodput", *arguments])
    assert exited.value.code == 0
    shown = capsys.readouterr().out
    assert f"small, {trace}: 1 failure in 1.0 h\n" in shown
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "goodput.csv", "goodput.pdf", "goodput.png", "goodput.svg",
    ]  # fmt: skip


def test_results_without_intervals_say_what_to_run(analysis: Analysis) -> None:
    arms = [arm for arm in analysis.plan.arms if arm.role != "system"]
    plan = msgspec.structs.replace(analysis.plan, arms=arms)
    bare = msgspec.structs.replace(analysis, plan=plan)
    with pytest.raises(BadValue, match="run: remora bench checkpoint-goodput"):
        goodput_rows(bare, Scenario(QUIET))
