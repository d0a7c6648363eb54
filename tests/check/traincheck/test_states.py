"""States of variables in TrainCheck's traces: what a call did to them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from tests.check.traincheck.lines import api, file_of, line
from tests.check.traincheck.test_replay import begin, end, state, trace

from remora.check.offline import check_run, read_for_traces
from remora.check.report import CheckReport

STEP = "torch.optim.adam.Adam.step"


def change(attribute: str, **value: Any) -> dict[str, Any]:
    """A step contains a change of some parameter's ``attribute``."""
    variable = {
        "param_type": "VarTypeParam", "var_type": "torch.nn.Parameter", "attr_name": attribute,
        **value,
    }  # fmt: skip
    return line("APIContainRelation", api(STEP), variable)


def told(name: str, time: int, **attributes: Any) -> dict[str, Any]:
    return state(name, time, attributes={"requires_grad": True, **attributes})


def step(time: int, number: int, *within: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    given: dict[str, Any] = {"0": {"Adam": {}}}
    return [begin(STEP, time, step=number, id=f"s{number}", args=given), *within,
            end(STEP, time + 5, step=number, id=f"s{number}")]  # fmt: skip


def checked(folder: Path, invariant: Mapping[str, Any], *records: Mapping[str, Any]) -> CheckReport:
    reading = read_for_traces(file_of(folder / "invariants.json", invariant))
    assert reading.unread == []
    (folder / "run").mkdir()
    return check_run(reading, trace(folder / "run", records), lambda _: None)[0]


FIRST = [told("w", 1, data=7, grad=None), told("b", 2, data=8, grad=None)]


def test_a_change_within_the_call_is_seen(tmp_path: Path) -> None:
    report = checked(
        tmp_path, change("data"), *FIRST, *step(10, 0, told("w", 12, data=9, grad=None))
    )
    assert (len(report.passed), report.violations) == (1, [])


def test_a_change_outside_of_it_is_none_within(tmp_path: Path) -> None:
    report = checked(
        tmp_path, change("data"), *FIRST, *step(10, 0, told("w", 12, data=9, grad=None)),
        told("w", 18, data=5, grad=None), *step(20, 1),
    )  # fmt: skip
    [found] = report.violations
    assert (found.step, found.seen) == (1, "w, b are unchanged")


@pytest.mark.parametrize(("grad", "violated"), [(3, False), (None, True)])
def test_a_gradient_that_becomes_something(
    grad: int | None, violated: bool, tmp_path: Path
) -> None:
    report = checked(
        tmp_path, change("grad", post_value="non_none"), *FIRST,
        *step(10, 0, told("w", 12, data=7, grad=grad)),
    )  # fmt: skip
    assert bool(report.violations) is violated


def test_a_trace_without_variables_triggers_nothing(tmp_path: Path) -> None:
    report = checked(tmp_path, change("data"), *step(10, 0), *step(20, 1))
    assert (len(report.not_triggered), report.violations) == (1, [])
