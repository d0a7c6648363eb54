"""What deciding costs, and how much a simulator gets through, policy by policy."""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median

from benchmarks.page import table
from remora.share.policies.contract import Policy, Priority, Run, Unit
from remora.share.policies.registry import Choice, names
from remora.share.simulator.scenario import Scenario
from remora.share.simulator.simulate import simulate

MS = 1_000_000
ROUNDS = 7
UNITS = 5_000
SCENARIO = Scenario(10 * MS, 0.5, 44 * MS, duration_ns=20_000 * MS, devices=1)
SLICES = Choice("priority+slicing", {"turnaround_ns": 3 * MS})


def section() -> str:
    """A table: CPU time of one unit's four calls, and units and slices simulated a second."""
    choices = [SLICES if name == SLICES.name else Choice(name) for name in names()]
    rows = [[f"`{choice}`", *_measured(choice)] for choice in choices]
    return (
        "In CPU time of one core, medians of 7 rounds. *One unit* is all four calls of a policy: "
        "submitted, next, started, finished. *Simulated* are units and slices a second of CPU, of "
        "requests of 10 ms (10 units) at load 0.5 beside units of 44 ms.\n\n"
        + table(["policy", "one unit, µs", "simulated, 1/s"], rows)
    )


def _measured(choice: Choice) -> tuple[str, str]:
    one_unit_s = median(_seconds(lambda: _decide(choice.create())) for _ in range(ROUNDS)) / UNITS
    [device] = SCENARIO.under(choice.create)
    runs = simulate(device).runs
    simulated_s = median(_seconds(lambda: simulate(device)) for _ in range(ROUNDS))
    return f"{one_unit_s * 1e6:.2f}", f"{runs / simulated_s:,.0f}"


def _decide(policy: Policy) -> None:
    """One high-priority unit after another."""
    unit = Unit("serve", Priority.HIGH, MS)
    for now_ns in range(0, UNITS * MS, MS):
        policy.submitted(unit, now_ns)
        run = policy.next(now_ns)
        if isinstance(run, Run):
            policy.started(run, now_ns)
            policy.finished(run, now_ns + MS)


def _seconds(work: Callable[[], object]) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began
