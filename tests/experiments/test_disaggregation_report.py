"""Speed-ups, claims and the second suite's files: numbers as they are, and words where none is."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

import msgspec
import pytest
from tests.lab import builders
from tests.lab.builders import make_spec

from remora.experiments.disaggregation_claims import claims_table, judged
from remora.experiments.disaggregation_published import Claim, against_aim, against_range
from remora.experiments.disaggregation_report import figures
from remora.experiments.disaggregation_tables import (
    resources_table,
    speedup_tables,
    traffic_table,
)
from remora.experiments.framework_view import PROFILE, workload_files
from remora.experiments.speedups import speedups
from remora.lab.analysis import analyse
from remora.lab.design import Chosen
from remora.lab.report.latex import table_latex
from remora.lab.results import (
    Analysis,
    Arm,
    Environment,
    EnvironmentPair,
    Plan,
    Trial,
)
from remora.lab.schedule import arms_of, schedule
from remora.lab.worker import failed

STEP_MS = {
    "native": 100.0,
    "native (again)": 100.0,
    "naive": 4000.0,
    "local-remote": 200.0,
    "full": 103.0,
    "torch-rpc": 110.0,
}
BYTES = {
    "naive": (4_000_000_000, 1_600_000),
    "local-remote": (100_000, 1_600_000),
    "full": (100, 300),
    "torch-rpc": (2000, 2000),
    "semantic_blind": (100, 300),
}
PLACE = Environment(taken="", machine={}, load={}, versions={}, threads={}, device={}, git={})
ROWS = [Chosen("remote", {"delay_ms": float(i)}, name) for i, name in enumerate(STEP_MS)][2:5]


def _plan(workload: str, rows: Sequence[Chosen]) -> Plan:
    arms = arms_of(workload, rows, ())
    plan = builders.make_plan()
    trials = schedule(arms, range(4), 0, make_spec(arms[0]))
    settings = {arm.label: dict(arm.options) for arm in arms}
    sizes: dict[str, dict[str, int | str]] = {workload: {"batch": 1}}
    return msgspec.structs.replace(
        plan, arms=arms, trials=trials, blocks=4, settings=settings, sizes=sizes
    )


def _trial(spec_arm: Arm, trial: Trial, steps: int = 40) -> Trial:
    if trial.costs is None or trial.start_up is None or spec_arm.label not in BYTES:
        return trial
    sent, received = (each * steps for each in BYTES[spec_arm.label])
    costs = msgspec.structs.replace(
        trial.costs, wire_bytes=sent + received, wire_sent_bytes=sent, wire_received_bytes=received
    )
    counts = {"upload_sent_bytes": 5e8, "server_cpu_ms_per_step": 50.0, "profile_server_plan_ms": 2}
    start_up = msgspec.structs.replace(trial.start_up, prepare_ns=2_500_000_000)
    return msgspec.structs.replace(trial, costs=costs, counts=counts, start_up=start_up)


@pytest.fixture(scope="module")
def run() -> tuple[Analysis, list[Trial]]:
    plan = _plan("gpt2-decode", [*ROWS, Chosen("torch-rpc"), Chosen("ray-actor")])
    trials = []
    for spec in plan.trials:
        if spec.arm.label == "ray-actor":
            trials.append(failed(spec, "unavailable", "ray-actor needs ray", ""))
        else:
            made = builders.make_trial(spec, STEP_MS[spec.arm.label], noise=0.001)
            trials.append(_trial(spec.arm, made))
    return analyse(plan, EnvironmentPair(before=PLACE), trials), trials


def test_speed_ups_are_over_local_and_over_naive_with_intervals_and_effects(
    run: tuple[Analysis, list[Trial]],
) -> None:
    local = {each.label: each for each in speedups(*run, "native")}
    naive = {each.label: each for each in speedups(*run, "naive")}
    assert local["full"].value == pytest.approx(100 / 103, rel=0.01)
    assert naive["full"].value == pytest.approx(4000 / 103, rel=0.01)
    between = naive["full"].interval
    assert between is not None
    assert between.low < 4000 / 103 < between.high
    assert naive["full"].cliffs_delta == 1
    assert naive["native"].value == pytest.approx(40, rel=0.01)
    assert naive["ray-actor"].value is None
    assert naive["ray-actor"].absence == "failed: unavailable"


def _telling(trial: Trial) -> Trial:
    """The first of eight tokens after a quarter of each step, but behind ``naive``."""
    if trial.samples is None or trial.spec.arm.label == "naive":
        return trial
    first_ns = [ns // 4 for ns in trial.samples.step_ns]
    told = msgspec.structs.replace(trial.samples, first_ns=first_ns)
    return msgspec.structs.replace(trial, samples=told, work_unit="tokens")


def test_decoding_has_a_time_to_its_first_token_and_for_each(
    run: tuple[Analysis, list[Trial]],
) -> None:
    trials = [_telling(trial) for trial in run[1]]
    analysis = analyse(run[0].plan, EnvironmentPair(before=PLACE), trials)
    (table,) = speedup_tables(analysis, trials)
    assert [column.title for column in table.columns[1:4]] == [
        *("Step, ms", "First token, ms", "A token, ms")
    ]
    shown = {row[0]: [*map(_number, row[1:4])] for row in table.rows if row[0] != "ray-actor"}
    assert shown["full"] == pytest.approx([103, 103 / 4, 103 / 8], rel=0.01)
    assert shown["naive"][1] is None
    assert shown["naive"][2] == pytest.approx(500, rel=0.01)
    stored = {cell.arm.label: cell for cell in analysis.cells}
    first, each = stored["full"].first_unit_ms, stored["full"].unit_ms
    assert first is not None
    assert each is not None
    assert (first.count, each.count) == (4, 4)
    assert stored["naive"].first_unit_ms is None


def _number(text: str) -> float | None:
    return None if text == "–" else float(text.replace("\u202f", ""))


def test_a_row_that_did_other_work_has_no_speed_up(run: tuple[Analysis, list[Trial]]) -> None:
    analysis, trials = run
    comparisons = [
        msgspec.structs.replace(each, verdict="void") if each.label == "full" else each
        for each in analysis.comparisons
    ]
    void = msgspec.structs.replace(analysis, comparisons=comparisons)
    found = {each.label: each for each in speedups(void, trials, "native")}
    assert (found["full"].value, found["full"].absence) == (None, "void")
    said = {one.claim.words: one for one in judged(void, trials)}
    assert said["bytes a token, full"].published == "void"


def test_each_claim_has_its_verdict(run: tuple[Analysis, list[Trial]]) -> None:
    said = {one.claim.words: one for one in judged(*run)}
    full = said["speed, full × local"]
    assert (full.published, full.aimed) == ("above it", "reached")
    assert said["speed, full × naive"].aimed == "reached"
    assert said["speed, local-remote × local"].published == "within it"
    assert said["speed, naive × local"].published == "below it"
    traffic = said["fewer bytes, full × naive"]
    assert (traffic.published, traffic.aimed) == ("above it", "reached")
    assert said["bytes a token, full"].value == pytest.approx(400 / 8)
    assert said["bytes a token, full"].aimed == "reached"
    table = claims_table(list(said.values()))
    assert len(table.rows) == 7
    assert "speed" in table_latex(table, "x")


@pytest.mark.parametrize(
    ("low", "high", "range_", "aim"),
    [
        (0.5, 0.6, "below it", "missed"),
        (0.75, 0.85, "within it", "missed"),
        (0.65, 0.8, "within it or below", "missed"),
        (0.8, 0.99, "within it or above", "undecided"),
        (0.96, 0.99, "above it", "reached"),
        (0.5, 0.99, "undecided", "undecided"),
        (None, None, "undecided", "undecided"),
    ],
)
def test_verdicts_follow_from_the_whole_interval(
    low: float | None, high: float | None, range_: str, aim: str
) -> None:
    claim = Claim("-decode", "speed", "full", "native", 0.7, 0.9, 0.95)
    assert (against_range(claim, low, high), against_aim(claim, low, high)) == (range_, aim)


def test_unknown_is_a_dash_and_a_failed_row_says_so(run: tuple[Analysis, list[Trial]]) -> None:
    traffic = {row[1]: row for row in traffic_table(run[0]).rows}
    assert traffic["native"][2:] == ("–",) * 7
    assert traffic["ray-actor"][2:] == ("failed: unavailable", *["–"] * 6)
    assert traffic["full"][2:5] == ("100", "300", "50.0")
    assert traffic["full"][6:8] == ("2.50", "500")
    resources = {row[1]: row for row in resources_table(run[0]).rows}
    assert resources["full"][6:] == ("–", "–")
    assert resources["full"][3] == "0.485"


def test_the_figures_can_be_drawn_and_bring_their_files(
    run: tuple[Analysis, list[Trial]],
) -> None:
    drawn = [figure for figure in figures() if figure.drawable(*run)]
    names = [figure.name for figure in drawn]
    assert names == ["latency_comparison", "network_traffic", "gpu_utilization"]
    gpu = drawn[-1].drawn(*run)
    assert "unknown" in gpu.wide
    latency = drawn[0]
    assert latency.beside is not None
    text = latency.beside(*run)["speedup_table.tex"]
    assert r"\toprule" in text
    assert "failed: unavailable" in text


def test_what_was_measured_over_a_network_has_groups_of_its_own(
    run: tuple[Analysis, list[Trial]],
) -> None:
    rows = [ROWS[0], ROWS[2], ROWS[2]._replace(name="full@1gbit-1ms")]
    plan = _plan("gpt2-decode", [*rows, Chosen("torch-rpc", name="naive@100mbit-10ms")])
    trials = [builders.make_trial(spec, 100.0) for spec in plan.trials]
    analysis = analyse(plan, EnvironmentPair(before=PLACE), trials)
    latency, traffic, _ = (each.drawn(analysis, trials) for each in figures())
    for drawn in (latency.wide, latency.narrow):
        words = re.findall(r">([^<>\n]+)</text>", drawn)
        assert words.count("gpt2-decode") == 3
        assert {"1 Gbit/s, 1 ms", "100 Mbit/s, 10 ms"} <= set(words)
        assert (words.count("a"), words.count("b")) == (2, 2)
    assert "Gbit/s" not in traffic.wide


def test_where_nothing_is_naive_no_column_and_no_claim_is_against_it() -> None:
    plan = _plan("resnet50-forward", [ROWS[2]])
    trials = [builders.make_trial(spec, 100.0) for spec in plan.trials]
    analysis = analyse(plan, EnvironmentPair(before=PLACE), trials)
    (table,) = speedup_tables(analysis, trials)
    assert not any("naive" in column.title for column in table.columns)
    assert {len(row) for row in table.rows} == {len(table.columns)}
    assert [one.claim.words for one in judged(analysis, trials)] == ["speed, full × local"]


def test_rows_that_the_bars_leave_out_are_drawn_where_there_are_no_others() -> None:
    plan = _plan("gpt2-decode", [Chosen("remote", name="no-streaming")])
    trials = [builders.make_trial(spec, 100.0) for spec in plan.trials]
    analysis = analyse(plan, EnvironmentPair(before=PLACE), trials)
    assert "a  no-streaming" in figures()[0].drawn(analysis, trials).wide
    alone = _plan("gpt2-decode", [])
    analysis = analyse(alone, EnvironmentPair(before=PLACE), [])
    assert not any(figure.drawable(analysis, []) for figure in figures())


def test_the_second_suites_json_has_its_fields_and_null_where_unknown() -> None:
    rows = [ROWS[1]._replace(name="semantic_blind"), Chosen("torch-rpc", name="pytorch_rpc")]
    plan = _plan("tiny-gpt2-decode", rows)
    trials = [
        failed(spec, "raised", "no", "")
        if spec.arm.label == "pytorch_rpc"
        else _trial(
            msgspec.structs.replace(
                spec.arm, label=spec.arm.label.replace("semantic_blind", "full")
            ),
            builders.make_trial(spec, 100.0),
        )
        for spec in plan.trials
    ]
    analysis = analyse(plan, EnvironmentPair(before=PLACE), trials)
    files = workload_files(analysis, trials)
    assert list(files) == ["workload-hf_tiny_gpt2.json"]
    found = json.loads(files["workload-hf_tiny_gpt2.json"])
    assert (found["workload"], found["category"]) == ("hf_tiny_gpt2", "generation")
    by_name = {each["baseline"]: each for each in found["results"]}
    assert list(by_name) == ["native_pytorch", "semantic_blind", "pytorch_rpc"]
    blind = by_name["semantic_blind"]["aggregates"]
    assert blind["total_data_mb"] == pytest.approx(400 / 1e6)
    assert blind["server_plan_ms"] == 2
    assert blind["client_serialize_ms"] is None
    rpc = by_name["pytorch_rpc"]
    assert rpc["state"] == "failed: raised"
    assert {rpc["aggregates"][name] for name in ("latency_ms", "total_data_mb", *PROFILE)} == {None}
