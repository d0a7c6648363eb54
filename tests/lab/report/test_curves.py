"""The curves that an experiment asks for: the right points on the right lines, drawn and listed."""

from __future__ import annotations

import csv
import io
import re

import msgspec
import pytest
from tests.lab.checkpoint_results import (
    BLOCKS,
    IN_FLIGHT,
    SIZE,
    SLOWDOWN,
    STEP_MS,
    THROUGHPUT,
    checkpoint_plan,
    checkpoint_trial,
)

from remora.core.colours import LIGHT
from remora.lab.analysis import analyse
from remora.lab.environment import capture
from remora.lab.report import Rendered, render
from remora.lab.report.curves import Panel, panels
from remora.lab.report.figures.catalogue import of_curve
from remora.lab.results import (
    Analysis,
    Arm,
    EnvironmentPair,
    Trial,
)

Results = tuple[Analysis, list[Trial]]


@pytest.fixture(scope="module")
def made() -> Results:
    plan = checkpoint_plan()
    trials = [checkpoint_trial(spec) for spec in plan.trials]
    machine = EnvironmentPair(before=capture(1), after=capture(1))
    return analyse(plan, machine, trials), trials


@pytest.fixture(scope="module")
def report(made: Results, tmp_path_factory: pytest.TempPathFactory) -> Rendered:
    return render(tmp_path_factory.mktemp("curves"), *made)


def _values(panel: Panel, words: str) -> dict[float, float]:
    line = next(line for line in panel.lines if line.words == words)
    return {point.at: point.value for point in line.points}


def test_throughput_counts_every_step_after_the_first_period_and_the_whole_drain(
    made: Results,
) -> None:
    """GIVEN stalls of 500 ms, a last wait of 300 ms, and five seconds of making ready
    THEN the ratio is the arithmetic of the first two, whatever the third."""
    found = panels(made[0], THROUGHPUT)
    assert [panel.title for panel in found] == ["small", "large"]
    for every, value in _values(found[0], "torch-save").items():
        counted = 40 - every
        stalls = counted / every * 500.0
        expected = counted * STEP_MS / (counted * STEP_MS + stalls + 300.0)
        assert value == pytest.approx(expected, rel=0.01), every


def test_a_line_holds_the_arms_that_differ_in_one_option_alone(made: Results) -> None:
    small = panels(made[0], THROUGHPUT)[0]
    assert [line.words for line in small.lines] == [
        "torch-save",
        "dcp-async",
        "remora-checkpoint in_flight=1",
        "remora-checkpoint in_flight=2",
    ]
    assert all([point.at for point in line.points] == [1, 5, 10] for line in small.lines)
    flight = panels(made[0], IN_FLIGHT)[0]
    assert [line.words for line in flight.lines] == [
        f"remora-checkpoint every={every}" for every in (1, 5, 10)
    ]


def test_intervals_hold_their_value_and_slowdown_is_throughput_upside_down(
    made: Results,
) -> None:
    through, slow = panels(made[0], THROUGHPUT)[0], panels(made[0], SLOWDOWN)[0]
    for up, down in zip(through.lines, slow.lines, strict=True):
        for a, b in zip(up.points, down.points, strict=True):
            assert a.value * b.value == pytest.approx(1.0)
            assert a.low is not None
            assert a.high is not None
            assert a.low < a.value < a.high
            assert a.low * (b.high or 0) == pytest.approx(1.0)


def test_what_was_skipped_shows(made: Results) -> None:
    lines = panels(made[0], THROUGHPUT)[0].lines
    complete = {(line.words, point.at): point.complete for line in lines for point in line.points}
    assert not complete["remora-checkpoint in_flight=1", 1]
    assert complete["remora-checkpoint in_flight=1", 5]
    assert complete["torch-save", 1]


def test_a_curve_over_a_size_goes_through_the_workloads(made: Results) -> None:
    (panel,) = panels(made[0], SIZE)
    assert _values(panel, "torch-save") == {
        10: pytest.approx(311, rel=1e-3),
        1000: pytest.approx(1301, rel=1e-3),
    }
    point = panel.lines[0].points[0]
    assert (point.low, point.high) == (310.0, 312.0)


def test_every_curve_is_drawn_in_every_form_and_has_its_csv(
    made: Results, report: Rendered
) -> None:
    names = [curve.name for curve in made[0].plan.curves]
    drawn = {path.name for path in report.figures}
    assert {f"{name}.{form}" for name in names for form in ("pdf", "svg", "png")} <= drawn
    assert [path.name for path in report.curves] == [f"curve-{name}.csv" for name in names]
    page = report.page.read_text(encoding="utf-8")
    for name in names:
        assert f'href="curve-{name}.csv"' in page
        assert f'id="figure-{name}"' in page
    assert "Steps up to the first checkpoint are left out" in page


def test_the_csv_holds_the_points(made: Results, report: Rendered) -> None:
    rows = list(csv.DictReader(io.StringIO(report.curves[0].read_text(encoding="utf-8"))))
    points = [p for panel in panels(made[0], THROUGHPUT) for ln in panel.lines for p in ln.points]
    assert [float(row["value"]) for row in rows] == [point.value for point in points]
    skipped = rows[[p.complete for p in points].index(False)]
    assert int(skipped["checkpoints_made"]) == int(skipped["checkpoints_due"]) - BLOCKS


@pytest.mark.slow
def test_the_hollow_mark_is_explained_only_where_there_is_one(made: Results) -> None:
    analysis, trials = made
    words = "hollow: fewer checkpoints than asked for"
    assert words in of_curve(THROUGHPUT).drawn(analysis, trials).wide
    cells = [msgspec.structs.replace(cell, calls=cell.calls_due) for cell in analysis.cells]
    whole = msgspec.structs.replace(analysis, cells=cells)
    assert words not in of_curve(THROUGHPUT).drawn(whole, trials).wide


def test_no_more_than_the_palette_is_used(report: Rendered) -> None:
    for path in report.figures:
        if path.suffix == ".svg":
            assert set(re.findall(r"#[0-9a-f]{6}\b", path.read_text())) <= set(LIGHT.values())


def test_nothing_is_drawn_of_single_points(made: Results) -> None:
    analysis, trials = made
    lonely = msgspec.structs.replace(THROUGHPUT, over="threads")
    assert not of_curve(lonely).drawable(analysis, trials)
    arms = [arm for arm in analysis.plan.arms if arm.role != "system"]
    plan = msgspec.structs.replace(analysis.plan, arms=arms)
    nothing = msgspec.structs.replace(analysis, plan=plan, comparisons=[])
    assert not of_curve(THROUGHPUT).drawable(nothing, trials)


def test_a_failed_arm_is_missing_and_nothing_else(made: Results) -> None:
    analysis, _ = made
    label = "torch-save every=5"
    kept = [c for c in analysis.comparisons if c.label != label]
    partial = msgspec.structs.replace(analysis, comparisons=kept)
    line = panels(partial, THROUGHPUT)[0].lines[0]
    assert [point.at for point in line.points] == [1, 10]


def test_arms_of_one_system_are_told_apart_by_label() -> None:
    labels = [arm.label for arm in checkpoint_plan().arms if arm.workload == "small"]
    assert len(set(labels)) == len(labels)
    assert "remora-checkpoint every=10 in_flight=2" in labels
    assert isinstance(checkpoint_plan().arms[0], Arm)
