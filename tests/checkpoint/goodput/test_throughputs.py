"""A real results.json of the lab, read for the model."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from tests.lab.builders import make_plan, make_spec, make_trial

from remora.checkpoint.goodput import read_throughputs
from remora.core.errors import BadValue, UnknownName
from remora.lab.analysis import analyse
from remora.lab.environment import capture
from remora.lab.report.rendering import results_json
from remora.lab.results import Arm, EnvironmentPair, Trial
from remora.lab.schedule import arms_of, schedule

WORKLOAD = "vgg16-train"
MS = 1_000_000


def saver(every: int) -> Arm:
    options: dict[str, int | float | str | bool] = {"every": every, "in_flight": 2}
    return Arm(
        workload=WORKLOAD, system="saver", label=f"saver-{every}", role="system", options=options
    )


def measured(arm: Arm, block: int) -> Trial:
    """The saver doubles the step at every 1, and adds a quarter at every 10. After 40 steps 300 ms
    are left to drain, which the lab counts: 7.5 ms a step."""
    step_ms = {"saver-1": 100.0, "saver-10": 62.5}.get(arm.label, 50.0)
    spec = make_spec(arm, id=f"b{block}-{arm.label}", block=block)
    trial = make_trial(spec, step_ms=step_ms, noise=0.0)
    assert trial.samples is not None
    assert trial.costs is not None
    return msgspec.structs.replace(
        trial,
        samples=msgspec.structs.replace(trial.samples, stall_ns=[20 * MS] * 4),
        costs=msgspec.structs.replace(
            trial.costs, drain_ns=300 * MS if arm.role == "system" else 0
        ),
    )


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    arms = [*arms_of(WORKLOAD, [], ()), saver(10), saver(1)]
    plan = make_plan(
        (),
        arms=arms,
        settings={arm.label: arm.options for arm in arms},
        trials=schedule(arms, range(3), 0, make_spec(arms[0])),
    )
    trials = [measured(arm, block) for block in range(3) for arm in arms]
    environment = EnvironmentPair(before=capture(1), after=capture(1))
    path = tmp_path_factory.mktemp("report") / "results.json"
    path.write_bytes(results_json(analyse(plan, environment, trials)))
    return path


def test_it_finds_the_step_and_every_interval(results: Path) -> None:
    found = read_throughputs(results, WORKLOAD)
    assert found.step_s == pytest.approx(0.05, rel=0.05)
    assert list(found.points) == ["saver"]
    once, tenth = found.points["saver"]
    assert (once.every, tenth.every) == (1, 10)
    assert once.throughput == pytest.approx(50 / 107.5, rel=0.05)
    assert tenth.throughput == pytest.approx(50 / 70, rel=0.05)
    assert once.in_flight == 2
    assert once.write_s == pytest.approx(0.3)


def test_an_unknown_workload_lists_those_there_are(results: Path) -> None:
    with pytest.raises(UnknownName, match="did you mean 'vgg16-train'"):
        read_throughputs(results, "vgg-train")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"{", "is not a report's results.json"),
        (b'{"version": 1}', "is not a report's results.json"),
        (
            b'{"version": 1, "cells": [{"arm": {"workload": "w", "system": "s", "label": "s", '
            b'"role": "system"}, "step_ms": null, "stall_ms": null}], "comparisons": []}',
            "no arm of w has an option 'every'",
        ),
        (
            b'{"version": 1, "cells": [{"arm": {"workload": "w", "system": "s", "label": "s", '
            b'"role": "system", "options": {"every": 1}}, "step_ms": null, "stall_ms": null}], '
            b'"comparisons": [{"workload": "w", "label": "s", "ratio": 2.0}]}',
            "no native arm that succeeded",
        ),
    ],
    ids=["no JSON", "another form", "no interval", "no native"],
)
def test_what_the_model_cannot_use_is_refused(tmp_path: Path, content: bytes, says: str) -> None:
    path = tmp_path / "results.json"
    path.write_bytes(content)
    with pytest.raises(BadValue) as caught:
        read_throughputs(path, "w")
    assert says in str(caught.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(BadValue, match="No such file"):
        read_throughputs(tmp_path / "results.json", "w")
