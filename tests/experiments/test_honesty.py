"""A run that cannot be believed says so: each gate is tried by what it is there to find."""

from __future__ import annotations

import re

import pytest
from tests.lab.builders import make_plan

from remora.experiments.honesty import broken
from remora.lab.results import (
    Analysis,
    Arm,
    Cell,
    Comparison,
    Environment,
    EnvironmentPair,
    Failure,
    Spread,
    Verdict,
)

WORKLOAD = "gpt2-decode"


def spread(value: float) -> Spread:
    return Spread(count=3, mean=value, median=value, std=0.0, min=value, max=value)


def cell(
    system: str, *, wire: float | None = 1.0, trials: int = 3, failed: bool = False, **counts: float
) -> Cell:
    return Cell(
        arm=Arm(workload=WORKLOAD, system=system, label=system, role="system"),
        trials=[str(number) for number in range(trials)],
        failures={"b0": Failure(kind="raised", message="no", log="")} if failed else {},
        steps=10,
        unsettled=[],
        outliers=0,
        warmup_steps=None,
        step_ms=None,
        throughput=None,
        work_unit="tokens",
        tails_ms=[],
        stall_ms=None,
        start_up_ms={},
        costs={} if wire is None else {"wire_mib": spread(wire)},
        counts={name: spread(value) for name, value in counts.items()},
    )


def compared(label: str, ratio: float, verdict: Verdict) -> Comparison:
    return Comparison(
        workload=WORKLOAD, label=label, blocks=3, ratio=ratio, interval=None, p_value=None,
        p_holm=None, cliffs_delta=None, hedges_g=None, verdict=verdict, sentence="",
        equal_work="step 3 differs by 0.5", cost_ratios=[],
    )  # fmt: skip


def analysis(*cells: Cell, comparisons: tuple[Comparison, ...] = ()) -> Analysis:
    taken = Environment(taken="", machine={}, load={}, versions={}, threads={}, device={}, git={})
    return Analysis(
        plan=make_plan(), environment=EnvironmentPair(before=taken), cells=list(cells), noise=[],
        comparisons=list(comparisons), warnings=[], complete=True,
    )  # fmt: skip


def test_an_honest_run_is_believed() -> None:
    assert not broken(
        analysis(
            cell("remote", all_sent_bytes=1000.0, server_received_bytes=990.0),
            cell("captured", wire=0),
            comparisons=(
                compared("remote", 0.8, "gains"),
                compared("captured", 0.75, "gains"),
                compared("remote, weights sent", 2.0, "costs"),
            ),
        )
    )


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (
            analysis(cell("remote"), comparisons=(compared("remote", 1.0, "void"),)),
            r"did other work than native: step 3 differs by 0\.5",
        ),
        (analysis(cell("remote", wire=0)), "no byte crossed the wire"),
        (analysis(cell("torch-rpc", wire=0)), "no byte crossed the wire"),
        (analysis(cell("ray-actor", wire=None)), "nothing can tell whether any byte crossed"),
        (
            analysis(
                cell("torch-rpc"),
                cell("captured", wire=0),
                comparisons=(
                    compared("torch-rpc", 0.8, "gains"),
                    compared("captured", 0.75, "gains"),
                ),
            ),
            "or not what it runs: nothing explains it",
        ),
        (
            analysis(
                cell("ray-actor", trials=0, failed=True),
                comparisons=(compared("ray-actor", 1.1, "undecided"),),
            ),
            "has failed, and is shown as 'undecided'",
        ),
        (
            analysis(cell("remote", all_sent_bytes=9e6, server_received_bytes=1e6)),
            "this end sent 9000000 bytes and the server received 1000000",
        ),
        (
            analysis(cell("remote"), comparisons=(compared("remote", 0.5, "gains"),)),
            "nothing explains it",
        ),
        (
            analysis(
                cell("remote"),
                cell("captured", wire=0),
                comparisons=(
                    compared("remote", 0.5, "gains"),
                    compared("captured", 0.9, "gains"),
                ),
            ),
            "its graph run here is not",
        ),
    ],
)
def test_each_gate_finds_what_it_is_for(made: Analysis, message: str) -> None:
    (found,) = broken(made)
    assert re.search(message, found)


def test_an_arm_that_was_never_measured_is_no_promise_broken() -> None:
    assert not broken(analysis(cell("remote", wire=0, trials=0)))
