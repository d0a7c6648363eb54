"""The overhead experiment: its arms, its bars, what is published beside what is measured."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import msgspec
import pytest
from tests.lab.builders import make_trial

from remora.experiments import registry
from remora.experiments.check_overhead_published import PUBLISHED, method_of, published
from remora.experiments.check_overhead_report import (
    bar_chart,
    fired_table,
    overhead_csv,
    published_table,
)
from remora.lab.analysis import analyse
from remora.lab.design import Request
from remora.lab.environment import capture
from remora.lab.planning import make_plan
from remora.lab.report.html import page_html
from remora.lab.results import Analysis, Arm, EnvironmentPair, Option, Plan, Trial, TrialSpec
from remora.lab.worker import failed
from remora.systems import registry as systems

MACHINE = EnvironmentPair(before=capture(1), after=capture(1))
NATIVE_MS = {"mlp-train": 0.6, "mnist-cnn-train": 80.0}
TIMES = {"settrace": 400.0, "patch-everything": 90.0, "record": 8.0}
CHECKED = {"deployed-100": 1.01, "learned": 1.5, "variables": 1.4}
FIRED = {"deployed-100": (100, 24), "learned": (120, 120), "variables": (12, 12)}


def _trial(spec: TrialSpec) -> Trial:
    arm = spec.arm
    which = str(arm.options.get("invariants"))
    times = TIMES.get(arm.system, CHECKED.get(which, 1.0))
    trial = make_trial(spec, NATIVE_MS[arm.workload] * times, noise=0.001)
    if arm.system != "check":
        return trial
    if arm.workload == "mlp-train" and which == "variables":
        return failed(spec, "raised", "ValueError: no", "logs/x.log")
    of_set, triggered = FIRED[which]
    counts = {"invariants": of_set, "triggered": triggered, "violated": 0, "judged_per_step": 48.5}
    return msgspec.structs.replace(trial, counts=counts)


@pytest.fixture(scope="module")
def plan() -> Plan:
    design = registry.get("check-overhead")
    return make_plan(design, Request(workloads=tuple(NATIVE_MS), blocks=5))


@pytest.fixture(scope="module")
def trials(plan: Plan) -> list[Trial]:
    return [_trial(spec) for spec in plan.trials]


@pytest.fixture(scope="module")
def analysis(plan: Plan, trials: list[Trial]) -> Analysis:
    return analyse(plan, MACHINE, trials)


def test_each_workload_has_a_bar_for_each_way_to_watch(analysis: Analysis) -> None:
    chart = bar_chart(analysis)
    assert list(chart.kinds) == [
        *("settrace", "patch-everything", "record"),
        *(f"check invariants={which}" for which in CHECKED),
    ]
    mlp, mnist = chart.groups
    assert (mlp.name, mnist.name) == ("mlp", "mnist-cnn")
    values = [bar.value for bar in mnist.bars]
    assert values == pytest.approx([*TIMES.values(), *CHECKED.values()], rel=0.01)
    assert all(b.low and b.value and b.high and b.low < b.value < b.high for b in mnist.bars)
    assert mnist.floor > 0


def test_what_was_published_stands_beside_it(analysis: Analysis) -> None:
    mlp, mnist = bar_chart(analysis).groups
    assert [bar.reference for bar in mnist.bars] == [988, 118, None, 1.221, None, None]
    assert {bar.reference for bar in mlp.bars} == {None}
    rows = {row[0]: row for row in published_table(analysis).rows}
    assert rows["mnist-cnn"][1] == "988×"
    assert _number(rows["mnist-cnn"][2]) == pytest.approx(400, rel=0.01)
    assert rows["mnist-cnn"][5] == "1.221×"
    assert _number(rows["mnist-cnn"][6]) == pytest.approx(1.01, rel=0.01)


def _number(cell: str) -> float:
    """A ratio as the tables write it."""
    return float(cell.partition("×")[0])


def test_a_failed_arm_is_said_to_have_failed_and_spoils_no_other(analysis: Analysis) -> None:
    mlp = bar_chart(analysis).groups[0]
    assert [bar.value is None for bar in mlp.bars] == [False] * 5 + [True]
    assert {row[1] for row in fired_table(analysis).rows if row[0] == "mlp"} == {
        "deployed-100",
        "learned",
    }
    record = _csv(analysis)["mlp-train", "check invariants=variables"]
    assert (record["verdict"], record["ratio"]) == ("failed: raised", "")


def _csv(analysis: Analysis) -> dict[tuple[str, str], dict[str, str]]:
    records = csv.DictReader(io.StringIO(overhead_csv(analysis)))
    return {(record["workload"], record["label"]): record for record in records}


def test_what_fires_stands_beside_what_it_costs(analysis: Analysis) -> None:
    rows = {row[:2]: row for row in fired_table(analysis).rows}
    deployed = rows["mnist-cnn", "deployed-100"]
    assert deployed[2:6] == ("100", "24", "48.5", "0")
    assert deployed[7].startswith("[1.0")
    assert _number(deployed[6]) == pytest.approx(1.01, rel=0.01)
    record = _csv(analysis)["mnist-cnn-train", "check invariants=learned"]
    assert float(record["ratio"]) == pytest.approx(1.5, rel=0.01)
    assert float(record["cpu_ratio"]) == pytest.approx(1.5, rel=0.01)
    assert float(record["judged_per_step"]) == 48.5


@pytest.mark.slow
def test_the_page_has_the_bars_and_both_tables(analysis: Analysis, trials: list[Trial]) -> None:
    (figure,) = registry.figures("check-overhead")
    assert figure.drawable(analysis, trials)
    drawn = figure.drawn(analysis, trials)
    assert set(drawn.files) == {"pdf", "svg", "png"}
    page = page_html(analysis, trials, Path("results"), [drawn])
    for table in drawn.tables:
        assert f"<h3>{table.caption}</h3>" in page
        assert all(f">{row[0]}</th>" in page for row in table.rows)
    assert 'href="check-overhead.csv"' in page


def test_only_what_is_alike_is_held_against_what_was_published() -> None:
    def arm(system: str, **options: Option) -> Arm:
        return Arm(workload="vae-train", system=system, label="x", role="system", options=options)

    assert published(arm("settrace")) == 477
    assert published(arm("check", invariants="deployed-100")) == 1.362
    assert published(arm("check", invariants="learned")) is None
    assert published(arm("record")) is None
    assert method_of(arm("traincheck", one_in=1)) == "selective"
    assert method_of(arm("traincheck", full=True)) == "patch-everything"
    assert all(len(values) == 3 for values in PUBLISHED.values())


@pytest.mark.parametrize("scale", ["quick", "standard", "paper"])
def test_every_arm_can_be_made(scale: str) -> None:
    for each in registry.get("check-overhead").systems[scale]:
        assert systems.create(each.system, each.options).title
