"""Policies are held against each other in the published order, where the numbers allow it."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from tests.experiments.test_isolation import SERVES, TRAINS, analysed, plan_of, trial_of

from remora.experiments.isolation_order import order_table
from remora.experiments.isolation_results import rows

POLICIES = ("priority+slicing:turnaround=1ms", "fifo", "priority", "rate-control")


def verdicts(service_ms: Mapping[str, float], seconds: float = 60.0) -> list[tuple[str, str, str]]:
    """Of each step in the order: policy, over which, and what is said."""
    plan = plan_of(POLICIES)
    trials = [
        trial_of(spec, service_ms.get(spec.arm.label.split(" + ")[0], 10.0), seconds, 0.4)
        for spec in plan.trials
        if spec.arm.system == "beside"
    ]
    found = rows(analysed(plan, trials), trials)
    return [(row[4], row[5], row[7]) for row in order_table(plan, found, trials).rows]


def test_the_published_order_is_found() -> None:
    assert verdicts({"fifo": 22.0, "priority": 14.0, POLICIES[0]: 10.1}) == [
        ("fifo", "priority", "as published: the first queue grows"),
        ("priority", POLICIES[0], "as published"),
    ]


@pytest.mark.parametrize(
    ("worse_ms", "better_ms", "said"),
    [
        (10.0, 14.0, "the other way round"),
        (10.0, 22.0, "the other way round: the second grows"),
        (22.0, 22.0, "both queues grow"),
    ],
)
def test_another_order_is_said(worse_ms: float, better_ms: float, said: str) -> None:
    found = verdicts({"fifo": worse_ms, "priority": better_ms, POLICIES[0]: 10.0})
    assert found[0] == ("fifo", "priority", said)


def test_no_difference_is_undecided_and_too_few_requests_are_invalid() -> None:
    assert verdicts({})[1][2] in ("undecided", "as published", "the other way round")
    assert verdicts({}, seconds=1.0)[0][2].startswith("INVALID: p99 needs at least 100 requests")


def test_alone_is_in_no_order() -> None:
    plan = plan_of(("plain", "idle"))
    trials = [trial_of(spec, 10.0, 60.0, 0.4) for spec in plan.trials if spec.arm.label != "native"]
    found = rows(analysed(plan, trials), trials)
    assert not order_table(plan, found, trials).rows
    assert {row.serves for row in found} == {SERVES}
    assert {row.trains for row in found} == {TRAINS, ""}
