"""From trials to verdicts: pairing by block, equal work, cautions, nothing lost on the way."""

from __future__ import annotations

import random
from collections.abc import Callable

import msgspec
import pytest
from tests.lab.builders import make_plan, make_trial

from remora.lab.analysis import analyse
from remora.lab.environment import capture
from remora.lab.results import (
    RESULTS_VERSION,
    Analysis,
    Arm,
    Cell,
    Comparison,
    EnvironmentPair,
    Plan,
    Trial,
)
from remora.lab.worker import failed

MACHINE = EnvironmentPair(before=capture(1), after=capture(1))
PLAN = make_plan(systems=("idle", "torch-save"), workloads=("vgg16-train", "gpt2-train"), blocks=8)


def step_ms(trial_label: str) -> float:
    return {"torch-save": 75.0}.get(trial_label, 50.0)


def run(plan: Plan = PLAN) -> list[Trial]:
    return [make_trial(spec, step_ms(spec.arm.label), noise=0.005) for spec in plan.trials]


def cell(analysis: Analysis, name: str) -> Cell:
    return next(cell for cell in analysis.cells if cell.arm.name == name)


def row(analysis: Analysis, workload: str, label: str) -> Comparison:
    rows = analysis.comparisons
    return next(r for r in rows if (r.workload, r.label) == (workload, label))


def test_every_system_is_compared_with_native_and_nothing_else_is() -> None:
    analysis = analyse(PLAN, MACHINE, run())
    assert {(r.workload, r.label) for r in analysis.comparisons} == {
        (workload, label)
        for workload in ("vgg16-train", "gpt2-train")
        for label in ("idle", "torch-save")
    }
    assert [noise.workload for noise in analysis.noise] == ["vgg16-train", "gpt2-train"]
    assert analysis.complete
    assert analysis.version == RESULTS_VERSION


def test_a_known_cost_is_found_and_no_cost_is_told() -> None:
    analysis = analyse(PLAN, MACHINE, run())
    costly = row(analysis, "vgg16-train", "torch-save")
    assert costly.verdict == "costs"
    assert costly.ratio == pytest.approx(1.5, rel=0.02)
    assert costly.interval is not None
    assert costly.interval.low < 1.5 < costly.interval.high
    assert costly.blocks == 8
    free = row(analysis, "vgg16-train", "idle")
    assert free.verdict == "no cost"
    assert free.equal_work == "identical"


def test_the_same_trials_in_any_order_give_the_same_analysis() -> None:
    trials = run()
    once = msgspec.json.encode(analyse(PLAN, MACHINE, trials))
    shuffled = random.Random(0).sample(trials, len(trials))
    assert shuffled != trials
    assert msgspec.json.encode(analyse(PLAN, MACHINE, shuffled)) == once


def test_blocks_without_both_arms_are_left_out() -> None:
    trials = [t for t in run() if not (t.spec.arm.label == "native" and t.spec.block < 3)]
    analysis = analyse(PLAN, MACHINE, trials)
    assert row(analysis, "vgg16-train", "torch-save").blocks == 5
    assert not analysis.complete
    assert any("not finished" in warning for warning in analysis.warnings)


def change(trials: list[Trial], label: str, how: Callable[[Trial], Trial]) -> list[Trial]:
    return [how(trial) if trial.spec.arm.label == label else trial for trial in trials]


def with_values(trial: Trial, values: list[float]) -> Trial:
    assert trial.samples is not None
    return msgspec.structs.replace(
        trial, samples=msgspec.structs.replace(trial.samples, values=values)
    )


@pytest.mark.parametrize(
    ("change_of_value", "verdict", "words"),
    [
        (lambda v: v * (1 + 1e-6), "no cost", "within 1e-06"),
        (lambda v: v * 1.01, "void", "the arms did not do equal work"),
        (lambda v: float("nan"), "void", "the arms did not do equal work"),
    ],
)
def test_unequal_work_voids_the_comparison(
    change_of_value: Callable[[float], float], verdict: str, words: str
) -> None:
    def altered(trial: Trial) -> Trial:
        assert trial.samples is not None
        return with_values(trial, [change_of_value(v) for v in trial.samples.values])

    found = row(analyse(PLAN, MACHINE, change(run(), "idle", altered)), "vgg16-train", "idle")
    assert found.verdict == verdict
    assert words in found.equal_work


def test_a_failed_arm_is_told_as_failed_and_spoils_nothing() -> None:
    whole = analyse(PLAN, MACHINE, run())

    def broken(trial: Trial) -> Trial:
        return failed(trial.spec, "out-of-memory", "killed by the kernel", "logs/x.log")

    analysis = analyse(PLAN, MACHINE, change(run(), "idle", broken))
    assert len(cell(analysis, "vgg16-train/idle").failures) == 8
    assert cell(analysis, "vgg16-train/idle").step_ms is None
    told_of = row(analysis, "vgg16-train", "idle")
    assert (told_of.verdict, told_of.ratio) == ("failed", None)
    assert told_of.sentence == "failed: out-of-memory: killed by the kernel"
    told = [warning for warning in analysis.warnings if "idle" in warning]
    assert "vgg16-train/idle: 8 trials failed (killed by the kernel)" in told
    kept, before = (row(a, "gpt2-train", "torch-save") for a in (analysis, whole))
    assert kept.ratio == before.ratio


def test_drained_work_counts_into_the_step() -> None:
    def drained(trial: Trial) -> Trial:
        assert trial.costs is not None
        assert trial.samples is not None
        drain = 10_000_000 * len(trial.samples.step_ns)
        return msgspec.structs.replace(
            trial, costs=msgspec.structs.replace(trial.costs, drain_ns=drain)
        )

    plain, late = (
        analyse(PLAN, MACHINE, run()),
        analyse(PLAN, MACHINE, change(run(), "idle", drained)),
    )
    before = cell(plain, "vgg16-train/idle").step_ms
    after = cell(late, "vgg16-train/idle").step_ms
    assert before is not None
    assert after is not None
    assert after.mean - before.mean == pytest.approx(10.0)


def test_a_wait_at_the_end_that_weighs_is_said() -> None:
    def drained(trial: Trial) -> Trial:
        assert trial.costs is not None
        costs = msgspec.structs.replace(trial.costs, drain_ns=500_000_000)
        return msgspec.structs.replace(trial, costs=costs)

    told = analyse(PLAN, MACHINE, change(run(), "idle", drained)).warnings
    (about,) = (warning for warning in told if "longer trials" in warning)
    assert "/idle)" in about
    shares = [
        500_000_000 / (sum(trial.samples.step_ns) + 500_000_000)
        for trial in run()
        if trial.samples is not None and trial.spec.arm.system == "idle"
    ]
    assert f"up to {max(shares) * 100:.0f} % of the time measured" in about
    assert not any("longer trials" in w for w in analyse(PLAN, MACHINE, run()).warnings)


def test_arms_of_few_steps_are_said_apart_from_those_that_did_not_settle() -> None:
    def few(arm: Arm) -> Arm:
        return msgspec.structs.replace(arm, most_steps=2) if arm.label == "torch-save" else arm

    trials = [
        make_trial(msgspec.structs.replace(spec, arm=few(spec.arm)), steps=2)
        if spec.arm.label in ("torch-save", "idle")
        else make_trial(spec)
        for spec in PLAN.trials
    ]
    plan = msgspec.structs.replace(PLAN, arms=[few(arm) for arm in PLAN.arms])
    warnings = analyse(plan, MACHINE, trials).warnings
    assert any("16 of 48 trials never reached" in warning for warning in warnings)
    assert any("at most torch-save 2;" in warning for warning in warnings)
    assert not any("at most" in warning for warning in analyse(PLAN, MACHINE, run()).warnings)


def test_few_blocks_and_stolen_time_are_said() -> None:
    plan = make_plan(blocks=2)
    trials = [msgspec.structs.replace(make_trial(s), steal_share=0.1) for s in plan.trials]
    warnings = analyse(plan, MACHINE, trials).warnings
    assert any("2 blocks are few" in warning for warning in warnings)
    assert any("more than 2 % of the CPU in 6 of 6 trials" in warning for warning in warnings)


def test_nothing_measured_still_gives_an_analysis() -> None:
    analysis = analyse(PLAN, MACHINE, [])
    assert not analysis.complete
    assert analysis.noise == []
    assert {r.verdict for r in analysis.comparisons} == {"undecided"}
