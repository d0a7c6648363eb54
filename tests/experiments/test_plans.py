"""Every experiment makes a plan at every scale, of arms that exist and settings as published."""

from __future__ import annotations

import pytest

from remora.core.errors import UnknownName
from remora.experiments import registry
from remora.lab.design import Design, Request
from remora.lab.planning import make_plan
from remora.lab.results import Plan
from remora.systems import registry as systems
from remora.workloads import devices, fits

SCALES = ("quick", "standard", "paper")
CASES = [
    pytest.param(name, scale, marks=() if scale == "quick" else pytest.mark.slow)
    for name in registry.names()
    for scale in SCALES
]


@pytest.fixture(autouse=True)
def _a_large_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "free_bytes", lambda device: 2**50)
    monkeypatch.setattr(fits, "free_bytes", lambda device: 2**50)


def _plan(name: str, scale: str, **asked: object) -> Plan:
    return make_plan(registry.get(name), Request(scale=scale, **asked))  # type: ignore[arg-type]


@pytest.mark.parametrize(("name", "scale"), CASES)
def test_there_is_a_plan_at_every_scale(name: str, scale: str) -> None:
    design, plan = registry.get(name), _plan(name, scale)
    assert {arm.workload for arm in plan.arms} == set(design.workloads[scale])
    names = [arm.name for arm in plan.arms]
    assert len(set(names)) == len(names)
    for arm in plan.arms:
        settings = systems.create(arm.system, arm.options).settings()
        assert plan.settings[arm.label] == dict(settings)
    assert len({spec.id for spec in plan.trials}) == len(plan.trials)


@pytest.mark.parametrize("scale", SCALES)
def test_a_checkpoint_experiment_makes_several_checkpoints_a_trial(scale: str) -> None:
    for name in registry.names():
        plan = _plan(name, scale)
        if not name.startswith("checkpoint-"):
            continue
        assert plan.warm_up == "first period"
        for spec in plan.trials:
            every = spec.arm.options.get("every", 1)
            assert isinstance(every, int)
            assert max(spec.min_steps, spec.min_periods * every) >= 3 * every


def _values(plan: Plan, option: str, system: str = "remora-checkpoint") -> set[object]:
    return {arm.options.get(option) for arm in plan.arms if arm.system == system}


def test_the_intervals_are_the_published_ones_at_paper_scale() -> None:
    plan = _plan("checkpoint-throughput", "paper")
    for system in ("torch-save", "gemini-like", "remora-checkpoint"):
        assert _values(plan, "every", system) == {1, 10, 25, 50, 75, 100}
    assert _values(plan, "in_flight") == {4}
    assert _values(plan, "threads") == {2}
    assert _values(_plan("checkpoint-throughput", "standard"), "every") == {1, 5, 10, 25, 50, 100}


def test_the_numbers_in_flight_are_the_published_ones_at_paper_scale() -> None:
    plan = _plan("checkpoint-concurrency", "paper")
    assert _values(plan, "in_flight") == {1, 2, 4, 6, 8}
    assert max(v for v in _values(plan, "every") if isinstance(v, int)) == 30
    assert plan.settings[plan.arms[-1].label]["threads"] == 1


def test_the_sizes_and_writers_are_the_published_ones_at_paper_scale() -> None:
    plan = _plan("checkpoint-sensitivity", "paper")
    assert {sizes["state_mb"] for sizes in plan.sizes.values()} == {10, 100, 1000, 10000}
    first = next(arm for arm in plan.arms if arm.role == "system")
    assert plan.settings[first.label]["threads"] == 4
    assert _values(plan, "threads") == {1, 2, 4}


def test_every_system_of_the_issue_is_in_the_full_comparison() -> None:
    plan = _plan("checkpoint-throughput", "standard")
    wanted = {name for name in systems.names() if "every" in systems.create(name).settings()}
    assert {arm.system for arm in plan.arms if arm.role == "system"} == wanted


def test_asking_for_a_system_sweeps_it_and_asking_for_an_interval_does_not() -> None:
    plan = _plan("checkpoint-throughput", "quick", systems=("safetensors-save",))
    labels = [arm.label for arm in plan.arms if arm.role == "system"]
    assert labels[:3] == [f"safetensors-save every={every}" for every in (1, 5, 10)]
    plan = _plan("checkpoint-throughput", "quick", systems=("safetensors-save",), every=4)
    mine = [arm for arm in plan.arms if arm.role == "system"]
    assert {(arm.label, arm.options["every"]) for arm in mine} == {("safetensors-save", 4)}


def test_one_interval_asked_for_leaves_no_two_arms_alike() -> None:
    plan = _plan("checkpoint-concurrency", "paper", every=7)
    mine = [arm for arm in plan.arms if arm.workload == "vgg16-train" and arm.role == "system"]
    assert sorted(str(arm.options) for arm in mine) == sorted({str(arm.options) for arm in mine})
    assert len(mine) == 5


def test_a_row_of_another_scale_can_be_asked_for_by_its_name() -> None:
    plan = _plan("disaggregation", "quick", systems=("naive@100mbit-10ms",))
    (arm,) = (arm for arm in plan.arms if arm.workload == "gpt2-decode" and arm.role == "system")
    assert (arm.label, arm.options["mbit_s"], arm.most_steps) == ("naive@100mbit-10ms", 100.0, 1)
    with pytest.raises(UnknownName, match=r"did you mean 'naive@100mbit-10ms'"):
        _plan("disaggregation", "quick", systems=("naive@100mbit-1ms",))


def test_every_row_over_a_network_has_its_options_and_makes_few_steps_where_they_are_long() -> None:
    plan = _plan("disaggregation", "standard", workloads=("gpt2-decode",))
    over = {arm.label: arm for arm in plan.arms if "@" in arm.label}
    assert set(over) == {
        f"{row}@{network}"
        for row in ("naive", "local-remote", "full")
        for network in ("1gbit-1ms", "100mbit-10ms")
    }
    assert over["naive@1gbit-1ms"].options["delay_ms"] == 1.0
    assert [arm.most_steps for label, arm in over.items() if "naive" in label] == [1, 1]
    assert over["full@1gbit-1ms"].most_steps is None


def test_designs_are_data() -> None:
    for name in registry.names():
        design = registry.get(name)
        assert isinstance(design, Design)
        assert design.title.endswith("?")
        assert design.question.endswith("?")
