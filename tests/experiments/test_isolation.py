"""The isolation experiment: what trials come to, in tables and in the published files."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from tests.lab import builders
from tests.lab.builders import make_spec, make_trial

from remora.cli.bench import _left_out
from remora.core.errors import BadValue, UnknownName
from remora.experiments import isolation, isolation_answers, registry
from remora.experiments.isolation_files import files
from remora.experiments.isolation_published import LEFT, RESPONSE, aims_table, published_table
from remora.experiments.isolation_report import figures
from remora.experiments.isolation_results import Row, Value, rows
from remora.experiments.isolation_rows import Pair, parse_pairs, trains_of
from remora.experiments.isolation_tables import isolation_table, throughput_table
from remora.lab.analysis import analyse
from remora.lab.design import Request
from remora.lab.planning import make_plan
from remora.lab.report import render
from remora.lab.report.markdown import table_markdown
from remora.lab.results import (
    Analysis,
    Arm,
    Environment,
    EnvironmentPair,
    Interval,
    Plan,
    Requests,
    Trial,
)
from remora.lab.schedule import arms_of, schedule
from remora.lab.worker import failed
from remora.share.arrivals.poisson import Poisson
from remora.systems.beside.sharing import EXECUTORS

MS = 1_000_000
GOLDEN = Path(__file__).parent / "golden"
SERVES, TRAINS = "bert-base-forward", "resnet50-train"
PLACE = Environment(taken="", machine={}, load={}, versions={}, threads={}, device={}, git={})
PAIR = (Pair(SERVES, TRAINS),)


def plan_of(policies: Sequence[str] = ("plain", "idle"), loads: Sequence[float] = (0.5,)) -> Plan:
    from remora.experiments.isolation_rows import rows as design_rows

    chosen = design_rows(PAIR, policies, loads, "quick")
    arms = arms_of(SERVES, chosen, ())
    trials = schedule(arms, range(4), 0, make_spec(arms[0], seconds=60.0))
    settings = {
        arm.label: {"executor": "operating-system"} if arm.system == "beside" else {}
        for arm in arms
    }
    plan = builders.make_plan(workloads=(SERVES,), experiment="isolation")
    return msgspec.structs.replace(plan, arms=arms, trials=trials, blocks=4, settings=settings)


def trial_of(spec: Any, service_ms: float, seconds: float = 60.0, training: float = 0.0) -> Trial:
    """Requests at 50 a second, each of which takes ``service_ms``, one after another."""
    came = Poisson().draw(50, round(seconds * 1e9), spec.block).tolist()
    noise = np.random.default_rng(spec.position * 97 + spec.block).lognormal(0, 0.03, len(came))
    free, late, steps = 0, [], []
    for moment, factor in zip(came, noise, strict=True):
        begin = max(moment, free)
        if begin >= seconds * 1e9:
            break
        late.append(begin - moment)
        steps.append(round(service_ms * MS * factor))
        free = begin + steps[-1]
    base = make_trial(spec, step_ms=service_ms, steps=len(steps))
    assert base.samples is not None
    samples = msgspec.structs.replace(
        base.samples,
        step_ns=steps,
        step_cpu_ns=steps,
        values=[1.0] * len(steps),
        requests=Requests(came_ns=came, late_ns=late, ended_ns=max(free, round(seconds * 1e9))),
    )
    counts = {"cores_busy": 0.9 if training else sum(steps) / (seconds * 1e9)}
    if training:
        counts |= {
            "best_effort_normalised": training,
            "best_effort_steps_per_s": 10 * training,
            "best_effort_steps_per_s_alone": 10.0,
            "best_effort_peak_rss_mib": 700.0,
        }
    return msgspec.structs.replace(base, samples=samples, counts=counts)


def trials_of(plan: Plan, seconds: float = 60.0) -> list[Trial]:
    """Alone 10 ms a request; unmanaged it takes 22 ms, so that the queue grows; idle 10.1 ms."""
    found = []
    for spec in plan.trials:
        label = spec.arm.label
        if spec.arm.system != "beside":
            found.append(make_trial(spec))
        elif label.startswith("plain"):
            found.append(trial_of(spec, 22.0, seconds, 0.5))
        elif label.startswith("idle"):
            found.append(trial_of(spec, 10.1, seconds, 0.49))
        else:
            found.append(trial_of(spec, 10.0, seconds))
    return found


def analysed(plan: Plan, trials: Sequence[Trial]) -> Analysis:
    return analyse(plan, EnvironmentPair(before=PLACE, after=PLACE), trials)


def found_rows(seconds: float = 60.0) -> dict[str, Row]:
    plan = plan_of()
    trials = trials_of(plan, seconds)
    return {row.arm.label: row for row in rows(analysed(plan, trials), trials)}


@pytest.fixture(scope="module")
def measured() -> dict[str, Row]:
    return found_rows()


def test_response_begins_at_arrival_and_service_when_it_is_turned_to(
    measured: dict[str, Row],
) -> None:
    idle = measured[f"idle + {TRAINS}"]
    p50 = 0
    assert idle.service_ms[p50].value == pytest.approx(10.1, rel=0.02)
    p95 = 2
    response = idle.response_ms[p95].value
    assert response is not None
    assert response > 15


def test_a_pair_whose_queue_grows_is_unstable_whatever_its_percentiles(
    measured: dict[str, Row],
) -> None:
    plain = measured[f"plain + {TRAINS}"]
    assert plain.is_unstable
    assert plain.verdict == "unstable"
    assert "grows (4 of 4)" in table_markdown(isolation_table([plain]))
    tidy = plain.service_ratio[-1].mean
    assert tidy is not None
    assert tidy < 2.5  # what it would look like by service alone
    assert not measured[f"idle + {TRAINS}"].is_unstable


def test_a_queue_that_would_grow_is_unstable_though_the_trial_was_too_short_to_show_it() -> None:
    assert found_rows(seconds=8.0)[f"plain + {TRAINS}"].is_unstable


def test_nothing_is_said_against_an_alone_that_could_not_keep_up() -> None:
    plan = plan_of()
    trials = [trial_of(t.spec, 22.0) if t.spec.arm.label == "alone" else t for t in trials_of(plan)]
    row = next(r for r in rows(analysed(plan, trials), trials) if r.policy == "idle")
    assert row.verdict == "void: alone is unstable"
    assert {cells[-1] for cells in aims_table([row]).rows} == {"void: alone is unstable"}


def test_ratios_are_within_blocks_and_have_intervals(measured: dict[str, Row]) -> None:
    value = measured[f"idle + {TRAINS}"].service_ratio[0]
    assert value.mean == pytest.approx(1.01, rel=0.01)
    assert value.low is not None
    assert value.high is not None
    assert value.low < 1.01 < value.high


def test_training_is_a_share_of_what_serving_alone_leaves(measured: dict[str, Row]) -> None:
    idle = measured[f"idle + {TRAINS}"]
    assert idle.training.mean == pytest.approx(0.49)
    assert idle.training_of_left.mean == pytest.approx(0.98, rel=0.05)
    assert idle.system == pytest.approx(1.49, rel=0.01)


def test_in_time_is_what_99_of_100_are_alone(measured: dict[str, Row]) -> None:
    assert measured["alone"].in_time == pytest.approx(0.99, abs=0.002)
    late = measured[f"plain + {TRAINS}"]
    assert late.in_time is not None
    assert late.in_time < 0.3
    assert late.bound_ms == measured["alone"].response_ms[-1].value


def test_too_few_requests_are_invalid_not_optimistic() -> None:
    few = found_rows(seconds=1.0)[f"idle + {TRAINS}"]
    assert few.response_ms[-1].value is None
    assert few.response_ratio[-1].mean is None
    assert "needs at least" in few.response_ratio[-1].reason
    assert few.verdict == "INVALID"
    assert "INVALID" in table_markdown(isolation_table([few]))
    assert few.goodput_per_s.mean is None


def test_a_failed_best_effort_job_is_a_failed_cell() -> None:
    plan = plan_of()
    trials = [
        failed(t.spec, "raised", "Unavailable: the best-effort job ended", "logs/x.log")
        if t.spec.arm.label.startswith("idle")
        else t
        for t in trials_of(plan)
    ]
    analysis = analysed(plan, trials)
    row = next(r for r in rows(analysis, trials) if r.policy == "idle")
    assert row.verdict == "failed"
    assert "the best-effort job ended" in table_markdown(throughput_table([row]))
    result = msgspec.json.decode(files(analysis, trials)["result.json"])
    (pair,) = result["operating-system/idle"].values()
    assert all("best-effort job ended" in each["error"] for each in pair["measurements"])


def test_a_pair_that_does_not_fit_is_left_out_and_no_failure_of_the_run() -> None:
    plan = plan_of()
    trials = [
        failed(t.spec, "too-large", "together 9 GiB; 8 GiB is free", "")
        if t.spec.arm.label.startswith("idle")
        else t
        for t in trials_of(plan)
    ]
    assert _left_out(analysed(plan, trials)) == {f"{SERVES}/idle + {TRAINS}"}
    assert not _left_out(analysed(plan, trials_of(plan)))


# ---------------------------------------------------------------- the published files


class PublishedJob(msgspec.Struct):
    """As Tally's benchmark writes it; more fields may be there."""

    time_elapsed: float
    iters: float
    latencies: list[float]
    priority: int


def test_result_json_is_a_superset_of_the_published_form() -> None:
    plan = plan_of()
    trials = trials_of(plan)
    text = files(analysed(plan, trials), trials)["result.json"]
    result = msgspec.json.decode(text)
    assert set(result) == {"operating-system/plain", "operating-system/idle"}
    for backend in result.values():
        for pair in backend.values():
            assert pair["executor"] == "operating-system"
            for each in pair["measurements"]:
                jobs = {k: v for k, v in each.items() if k.endswith(("_0", "_1"))}
                assert jobs
                for job in jobs.values():
                    msgspec.convert(job, PublishedJob)
                assert {"gpu_util", "gmem_util", "gmem"} <= set(each["metrics"])
                assert each["metrics"]["gpu_util"] is None  # unknown is never 0
                assert each["error"] is None


def test_the_tables_have_a_row_for_each_arm_and_each_names_its_executor() -> None:
    plan = plan_of()
    trials = trials_of(plan)
    written = files(analysed(plan, trials), trials)
    single = list(csv.DictReader(io.StringIO(written["single-job-perf.csv"])))
    pairs = list(csv.DictReader(io.StringIO(written["priority-aware-perf.csv"])))
    assert [row["job"] for row in single] == [SERVES] * 2
    assert [row["policy"] for row in pairs] == ["plain", "idle"]
    assert {row["executor"] for row in [*single, *pairs]} == {"operating-system"}
    assert pairs[0]["state"] == "unstable"
    for name in ("p90", "p95", "p99"):
        assert f"service_{name}_ms" in pairs[0]
        assert f"response_{name}_over_alone" in pairs[0]


def test_the_answer_is_about_responses_not_about_what_a_step_costs() -> None:
    plan = plan_of()
    trials = trials_of(plan)
    found = registry.answers("isolation", analysed(plan, trials), trials)
    assert found is not None
    plain, idle = found[SERVES]
    assert plain.label == f"plain + {TRAINS}"
    assert plain.verdict == "costs"
    assert plain.sentence.startswith("cannot keep up: its queue grows; has a response p99 of ")
    assert " times that alone (95\N{NO-BREAK SPACE}% interval " in idle.sentence
    assert "; training gets " in idle.sentence
    assert " of what is left (95\N{NO-BREAK SPACE}% interval " in idle.sentence


def test_an_answer_that_cannot_be_given_says_why() -> None:
    few = isolation_answers.answers(list(found_rows(seconds=1.0).values()))
    assert all("cannot be told" in each.sentence for each in few[SERVES] if each.verdict != "costs")
    arm = Arm(workload=SERVES, system="beside", label=f"idle + {TRAINS}", role="system")
    nothing = Row(arm=arm, executor="x", serves=SERVES, trains=TRAINS, policy="idle", load=0.5)
    (answer,) = isolation_answers.answers([nothing])[SERVES]
    assert (answer.sentence, answer.verdict) == ("was not measured: not run", "failed")


def test_the_page_and_its_markdown_give_the_experiments_own_answer(tmp_path: Path) -> None:
    plan = plan_of()
    trials = trials_of(plan)
    analysis = analysed(plan, trials)
    answered = registry.answers("isolation", analysis, trials)
    rendered = render(tmp_path, analysis, trials, (), answered)
    page, text = rendered.page.read_text(), rendered.markdown.read_text()
    answer = page[page.index('id="answer"') : page.index('id="summary"')]
    assert "times that alone" in answer
    assert "times that alone" in text
    assert "noise floor" not in answer


def test_tables_are_as_they_were(measured: dict[str, Row]) -> None:
    shown = list(measured.values())
    tables = (isolation_table(shown), throughput_table(shown), aims_table(shown))
    text = "\n\n".join(map(table_markdown, tables)) + "\n"
    assert text == (GOLDEN / "isolation.md").read_text()


def test_the_figures_are_drawn_and_by_load_where_there_are_several() -> None:
    plan = plan_of(loads=(0.1, 0.5))
    trials = trials_of(plan)
    analysis = analysed(plan, trials)
    drawn = {
        figure.name: figure.drawn(analysis, trials)
        for figure in figures()
        if figure.drawable(analysis, trials)
    }
    assert set(drawn) == {"end_to_end", "throughput_share", "sensitivity"}
    assert "idle (operating-system)" in drawn["sensitivity"].files["svg"].decode()
    assert "plain" not in drawn["sensitivity"].wide  # its queue grew
    single = trials_of(plan_of())
    alone = next(figure for figure in figures() if figure.name == "sensitivity")
    assert not alone.drawable(analysed(plan_of(), single), single)


# ---------------------------------------------------------------- claims


def _between(low: float, high: float) -> Value:
    return Value((low + high) / 2, Interval(low=low, high=high, level=0.95, method="t"))


@pytest.mark.parametrize(
    ("value", "verdict"),
    [
        (_between(0.99, 1.04), "reached"),
        (_between(1.06, 1.2), "missed"),
        (_between(1.0, 1.1), "undecided"),
        (Value(1.0), "undecided"),
        (Value(None, reason="too few"), "INVALID: too few"),
    ],
)
def test_an_aim_is_judged_by_the_interval(value: Value, verdict: str) -> None:
    assert RESPONSE.verdict(value) == verdict


def test_an_aim_from_below_is_judged_the_other_way_round() -> None:
    assert LEFT.verdict(_between(0.98, 1.02)) == "reached"
    assert LEFT.verdict(_between(0.5, 0.9)) == "missed"


def test_a_row_on_a_cpu_is_never_held_against_a_published_gpu(measured: dict[str, Row]) -> None:
    table = published_table(list(measured.values()))
    assert all(cells[-1].startswith("none: a GPU's") for cells in table.rows)
    assert "cuda" not in EXECUTORS or EXECUTORS["cuda"].devices == ("cuda",)


# ---------------------------------------------------------------- what is run


def test_pairs_are_read_by_word_or_by_workload() -> None:
    assert parse_pairs("bert:resnet50, gpt2:mlp-train") == (
        Pair("bert-base-forward", "resnet50-train"),
        Pair("gpt2-decode", "mlp-train"),
    )


def test_a_training_may_be_of_another_scale_and_its_row_says_so() -> None:
    scaled = "pointnet-train@standard"
    (pair,) = parse_pairs("bert:pointnet@standard")
    assert pair == Pair("bert-base-forward", "pointnet-train", "standard")
    design = isolation.tailored(isolation.DESIGN, (), "bert:pointnet@standard,gpt2:pointnet")
    plan = make_plan(design, Request(scale="quick"))
    found = {
        (arm.workload, arm.label, arm.options["job_scale"], trains_of(arm))
        for arm in plan.arms
        if arm.options.get("policy") == "idle"
    }
    assert found == {
        ("bert-base-forward", f"idle + {scaled}", "standard", scaled),
        ("gpt2-decode", "idle + pointnet-train", "quick", "pointnet-train"),
    }
    with pytest.raises(UnknownName, match="huge"):
        parse_pairs("bert:pointnet@huge")


@pytest.mark.parametrize("text", ["bert", "bert:", ":bert", ","])
def test_a_pair_that_is_none_says_how_to_write_one(text: str) -> None:
    with pytest.raises(BadValue, match="SERVES:TRAINS"):
        parse_pairs(text)


def test_an_unknown_workload_of_a_pair_is_named() -> None:
    with pytest.raises(UnknownName, match="'brt'"):
        parse_pairs("brt:resnet50")


def test_each_pair_is_run_under_each_policy_and_no_other() -> None:
    design = isolation.tailored(isolation.DESIGN, (), "bert:resnet50,resnet50:bert")
    plan = make_plan(design, Request(scale="quick"))
    labels = {(arm.workload, arm.label) for arm in plan.arms if arm.options.get("job")}
    assert labels == {
        (serves, f"{policy} + {trains}")
        for serves, trains in (
            ("bert-base-forward", "resnet50-train"),
            ("resnet50-forward", "bert-base-train"),
        )
        for policy in ("plain", "idle")
    }


def test_each_load_has_rows_of_its_own_and_its_own_alone() -> None:
    design = isolation.tailored(isolation.DESIGN, (0.1, 0.9), "bert:resnet50")
    plan = make_plan(design, Request(scale="quick"))
    labels = [arm.label for arm in plan.arms if arm.system == "beside"]
    assert labels[:2] == ["alone @0.1", "alone @0.1 (again)"]
    assert "idle + resnet50-train @0.9" in labels


@pytest.mark.parametrize("load", [0.0, 1.0, -0.5])
def test_a_load_that_is_no_share_is_refused(load: float) -> None:
    with pytest.raises(BadValue, match="between 0 and 1"):
        isolation.tailored(isolation.DESIGN, (load,), "")


def test_policies_can_be_chosen_and_are_what_rows_are_called_by() -> None:
    design = isolation.tailored(isolation.DESIGN, (), "bert:resnet50", ["stop:min-wait=2ms"])
    plan = make_plan(design, Request(scale="quick"))
    (arm,) = (arm for arm in plan.arms if arm.options.get("job"))
    assert arm.label == "stop:min-wait=2ms + resnet50-train"
    with pytest.raises(UnknownName, match="policy"):
        isolation.tailored(isolation.DESIGN, (), "", ["turbo"])
    with pytest.raises(BadValue, match="choose among them with --policy"):
        make_plan(design, Request(scale="quick", options={"policy": ("idle",)}))


def test_other_experiments_have_no_pairs() -> None:
    with pytest.raises(BadValue, match="leave them out"):
        isolation.tailored(registry.get("quick"), (0.5,), "")


def test_it_has_the_published_pairs() -> None:
    assert len(isolation.DESIGN.workloads["standard"]) == 4
    arms = isolation.DESIGN.systems["paper"]
    trained = {row.options.get("job") for row in arms} - {None}
    assert len(trained) == 6
    quick = [row for row in isolation.DESIGN.systems["quick"] if row.options.get("job")]
    pairs = {(serves, row.options["job"]) for row in quick for serves in row.workloads}
    assert len(pairs) == 4


@pytest.mark.slow
def test_it_runs_from_end_to_end(tmp_path: Path) -> None:
    """A tiny scale: what is asked for is measured, reported and written down."""
    from typer.testing import CliRunner

    from remora.cli.app import app

    out = tmp_path / "results"
    command = ["bench", "isolation", "--scale", "validate", "--blocks", "2", "--out", str(out)]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    report = out / "report"
    found = msgspec.json.decode((report / "result.json").read_bytes())
    assert set(found) == {
        *("operating-system/plain", "operating-system/idle"),
        *("software-device/fifo", "software-device/priority"),
    }
    assert "llama-2-7b-decode at load 0.5, by software-device" in " ".join(result.output.split())
    for backend in found.values():
        for pair in backend.values():
            assert [each["error"] for each in pair["measurements"]].count(None) >= 2
    assert (report / "figures" / "end_to_end.svg").exists()
    page = (report / "index.html").read_text()
    assert "operating-system" in page
    assert all(arm.workload == "llama-2-7b-decode" for arm in _arms(out))


def _arms(out: Path) -> list[Arm]:
    return msgspec.json.decode((out / "plan.json").read_bytes(), type=Plan).arms
