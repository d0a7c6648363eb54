"""The curves that an experiment asks for: the right points on the right lines, drawn and listed."""

from __future__ import annotations

import csv
import io
import random
import re
from dataclasses import dataclass, field

import msgspec
import pytest
from tests.lab.builders import make_spec

from remora.lab.analysis import analyse
from remora.lab.environment import capture
from remora.lab.report import Rendered, render
from remora.lab.report.curves import Panel, panels
from remora.lab.report.figures.catalogue import of_curve
from remora.lab.report.palette import LIGHT
from remora.lab.results import (
    Analysis,
    Arm,
    Costs,
    Curve,
    EnvironmentPair,
    Option,
    Plan,
    Samples,
    StartUp,
    Trial,
    TrialSpec,
)
from remora.lab.schedule import arms_of, schedule

MS = 1_000_000
STEP_MS = 250.0
BLOCKS = 4

THROUGHPUT = Curve(
    name="throughput", title="Throughput", over="every", axis="steps", quantity="throughput"
)
SLOWDOWN = msgspec.structs.replace(THROUGHPUT, name="slow", quantity="slowdown")
IN_FLIGHT = msgspec.structs.replace(
    THROUGHPUT, name="flight", over="in_flight", quantity="slowdown"
)
SIZE = msgspec.structs.replace(THROUGHPUT, name="size", over="state_mb", quantity="durable_ms")


@dataclass
class Made:
    """What a system does to a job: so many ms of stall a checkpoint, the last durable so late."""

    stall_ms: float
    durable_ms: float = 300.0
    skips: bool = False
    options: list[dict[str, Option]] = field(default_factory=list)


SYSTEMS = {
    "torch-save": Made(500.0, options=[{"every": every} for every in (1, 5, 10)]),
    "dcp-async": Made(100.0, options=[{"every": every} for every in (1, 5, 10)]),
    "remora-checkpoint": Made(
        2.0,
        options=[{"every": e, "in_flight": n} for e in (1, 5, 10) for n in (1, 2)],
        skips=True,
    ),
}
WORKLOADS = {"small": 10, "large": 1000}


def _trial(spec: TrialSpec) -> Trial:
    made = SYSTEMS.get(spec.arm.system, Made(0.0))
    every = spec.arm.options.get("every")
    period = every if isinstance(every, int) else 1
    rng = random.Random(spec.id)
    level = STEP_MS * rng.lognormvariate(0, 0.002)
    steps = 40
    stall = made.stall_ms if spec.arm.system != "native" else 0.0
    first_ms = 5000.0  # the first checkpoint makes ready: not what a job in its stride sees
    step_ms = [
        level + (stall if (i + 1) % period == 0 else 0) + (first_ms if i + 1 == period else 0)
        for i in range(steps)
    ]
    calls = 0 if not stall else steps // period - (1 if made.skips and period == 1 else 0)
    size = WORKLOADS[spec.arm.workload]
    return Trial(
        spec=spec,
        started="2031-01-01T00:00:00+00:00",
        period=period,
        work_count=1,
        work_unit="steps",
        samples=Samples(
            step_ns=[round(ms * MS) for ms in step_ms],
            step_cpu_ns=[MS] * steps,
            values=[1.0] * steps,
            digests=["0" * 16] * 8,
            stall_ns=[round(stall * MS)] * calls,
            durable_ns=[round((made.durable_ms + size + i % 3) * MS) for i in range(calls)],
        ),
        start_up=StartUp(spawn_ns=MS, import_ns=MS, build_ns=MS, attach_ns=MS, first_step_ns=MS),
        costs=Costs(
            drain_ns=round(made.durable_ms * MS) if stall else 0,
            cpu_ns=steps * MS,
            peak_rss_bytes=2**28,
            disk_bytes=0,
            wire_bytes=0,
        ),
    )


def _plan() -> Plan:
    chosen = [(name, options) for name, made in SYSTEMS.items() for options in made.options]
    arms = [arm for workload in WORKLOADS for arm in arms_of(workload, chosen, ())]
    return Plan(
        experiment="checkpoint-throughput",
        title="Curves",
        question="Are they right?",
        scale="quick",
        device="cpu",
        created="2031-01-01T00:00:00+00:00",
        seed=0,
        threads=1,
        executor="spawn",
        margin=0.02,
        tolerance=1e-4,
        arms=arms,
        blocks=BLOCKS,
        warm_up="first period",
        curves=[THROUGHPUT, SLOWDOWN, IN_FLIGHT, SIZE],
        settings={arm.label: {**arm.options, "threads": 1} for arm in arms},
        sizes={name: {"state_mb": size} for name, size in WORKLOADS.items()},
        sources=dict.fromkeys(WORKLOADS, "made up"),
        trials=schedule(arms, range(BLOCKS), 0, make_spec(arms[0])),
    )


Results = tuple[Analysis, list[Trial]]


@pytest.fixture(scope="module")
def made() -> Results:
    plan = _plan()
    trials = [_trial(spec) for spec in plan.trials]
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
    labels = [arm.label for arm in _plan().arms if arm.workload == "small"]
    assert len(set(labels)) == len(labels)
    assert "remora-checkpoint every=10 in_flight=2" in labels
    assert isinstance(_plan().arms[0], Arm)
