"""Rows of a plan: ratios to the job alone, promises, and bounds that cannot be kept."""

from __future__ import annotations

import re

import pytest
from tests.share.executor import MS

from remora.core.errors import BadValue
from remora.experiments.share_plan import PlanRow, plan_rows
from remora.share.arrivals.markov import MarkovModulated
from remora.share.policies.registry import parse_choice
from remora.share.simulator.scenario import SERVES, Scenario

SCENARIO = Scenario(10 * MS, 0.5, 44 * MS, duration_ns=20_000 * MS, devices=3)


def rows(*policies: str, scenario: Scenario = SCENARIO) -> list[PlanRow]:
    return list(plan_rows(scenario, [parse_choice(each) for each in policies]))


def test_policies_differ_as_they_should() -> None:
    fifo, waits, slices = rows("fifo", "priority+min-wait", "priority+slicing:turnaround=3ms")
    p50, *_, p99 = (ratio.value for ratio in slices.response)
    assert p50 is not None
    assert p99 is not None
    assert 1 <= p50 < 1.4
    assert 1 <= p99 < 1.2
    assert waits.response[1].value is not None
    assert waits.response[1].value > 1.5
    assert fifo.unstable_devices == 3
    assert fifo.most_backlog > 300
    assert slices.unstable_devices == waits.unstable_devices == 0
    assert 0.9 < slices.best_effort_of_left < 1
    assert fifo.best_effort_of_left > 1.8


def test_the_waits_are_those_that_the_policies_promise() -> None:
    whole, sliced, floored, fifo, beside = rows(
        "priority", "priority+slicing:turnaround=3ms", "priority:floor=20%", "fifo", "complementary"
    )
    assert (whole.high_wait_ns, whole.high_wait_first_ns) == (44 * MS, 44 * MS)
    assert sliced.high_wait_ns is not None
    assert sliced.high_wait_ns <= 3 * MS
    assert sliced.high_wait_first_ns == 44 * MS
    assert floored.high_wait_ns is not None
    assert floored.high_wait_ns > 66 * MS
    assert fifo.high_wait_ns is None
    assert beside.runs_beside


def test_a_bound_that_no_slice_keeps_is_refused_where_it_was_asked_for() -> None:
    with pytest.raises(BadValue, match=r"has none shorter than .*; choose at least that") as raised:
        rows("priority+slicing:turnaround=50us")
    (shortest,) = re.findall(r"none shorter than (\S+);", str(raised.value))
    assert len(rows(f"priority+slicing:turnaround={shortest}")) == 1


def test_a_bound_that_no_slice_keeps_is_told_where_it_is_the_default() -> None:
    coarse = Scenario(10 * MS, 0.5, 44 * MS, most_slices=8, duration_ns=2_000 * MS, devices=2)
    [row] = rows("priority+slicing", scenario=coarse)
    assert row.beyond_bound > 0.02
    assert row.high_wait_ns == 5_516_000


def test_too_few_requests_give_no_number() -> None:
    short = Scenario(10 * MS, 0.5, 44 * MS, duration_ns=300 * MS, devices=2)
    [row] = rows("priority+min-wait", scenario=short)
    assert row.response[-1].value is None


def test_the_same_requests_come_whatever_the_policy() -> None:
    bursty = Scenario(10 * MS, 0.3, 44 * MS, arrivals=MarkovModulated(), devices=2)
    alone = [device.jobs[0].arrivals_ns for device in bursty.alone()]
    shared = [device.jobs[0].arrivals_ns for device in bursty.under(parse_choice("fifo").create)]
    for ours, theirs in zip(alone, shared, strict=True):
        assert ours is not None
        assert theirs is not None
        assert ours.tolist() == theirs.tolist()
    assert alone[0] is not None
    assert alone[1] is not None
    assert alone[0].tolist() != alone[1].tolist()


def test_a_request_alone_takes_what_was_said() -> None:
    device = next(SCENARIO.alone())
    serve = device.jobs[0]
    assert serve.name == SERVES
    taken_ns = sum(piece.expected_ns for piece in serve.pieces) + 9 * serve.gap_ns
    assert taken_ns == 10 * MS


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"load": 1.0}, "would not keep up"),
        ({"load": 0.0}, "would not keep up"),
        ({"high_latency_ns": 0}, "high latency of 0 ns"),
        ({"best_effort_ns": -1}, "best effort of -1 ns"),
        ({"devices": 0}, "devices of 0"),
        ({"high_gap_ns": 2 * MS}, "do not fit in a request of 10 ms"),
    ],
)
def test_a_scenario_that_cannot_be_is_refused(wrong: dict[str, float], says: str) -> None:
    given: dict[str, float] = {"high_latency_ns": 10 * MS, "load": 0.5, "best_effort_ns": 44 * MS}
    with pytest.raises(BadValue, match=says):
        Scenario(**{**given, **wrong})  # type: ignore[arg-type]
