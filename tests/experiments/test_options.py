"""Options of systems asked for on the command line, in place of the experiment's own."""

from __future__ import annotations

import pytest

from remora.core.errors import BadValue, UnknownName
from remora.experiments import registry
from remora.lab.design import Request
from remora.lab.planning import make_plan
from remora.lab.results import Option


def planned(options: dict[str, tuple[str, ...]]) -> list[dict[str, Option]]:
    request = Request(
        workloads=("mnist-cnn-train",), systems=("remora-checkpoint",), options=options
    )
    plan = make_plan(registry.get("checkpoint-throughput"), request)
    return [dict(arm.options) for arm in plan.arms if arm.role == "system"]


def test_every_value_asked_for_is_an_arm_and_none_else() -> None:
    assert planned({"every": ("2", "4"), "disk_mb_s": ("500",)}) == [
        {"every": 2, "disk_mb_s": 500},
        {"every": 4, "disk_mb_s": 500},
    ]
    assert [each["every"] for each in planned({})] == [1, 5, 10]


def test_what_no_system_has_is_refused() -> None:
    with pytest.raises(UnknownName, match="did you mean 'threads'"):
        planned({"thread": ("2",)})
    with pytest.raises(BadValue, match="--set threads=two is no int; write it like threads="):
        planned({"threads": ("two",)})
