"""What policies would do to a job that serves and one that trains, simulated: a row for each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from remora.core.errors import BadValue
from remora.core.units import format_seconds
from remora.lab.results import Tail
from remora.lab.statistics.arrays import FloatArray
from remora.lab.statistics.tails import tail
from remora.share.policies.contract import Longest
from remora.share.policies.registry import Choice
from remora.share.simulator import EXECUTOR
from remora.share.simulator.results import DeviceResult
from remora.share.simulator.scenario import SERVES, TRAINS, Scenario
from remora.share.simulator.simulate import simulate_all

QUANTILES = (0.5, 0.9, 0.95, 0.99)


@dataclass(frozen=True)
class Ratio:
    """A percentile over that of the job alone; None where too few requests bound it."""

    value: float | None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class PlanRow:
    """One policy over all devices."""

    policy: str
    response: tuple[Ratio, ...]
    """At each of the quantiles, from arrival."""
    service: tuple[Ratio, ...]
    """The same, from when the program turned to a request."""
    best_effort_of_left: float
    """Best-effort work done, over the device time that the high-priority job alone leaves."""
    high_wait_ns: int | None
    """At most, for best-effort work; None where nothing bounds it."""
    high_wait_first_ns: int | None
    """The same of the first request after a long absence."""
    runs_beside: bool
    """Both are on the device at once, so that waiting is not what the high-priority job feels."""
    most_backlog: int
    unstable_devices: int
    beyond_bound: float
    """The share of best-effort runs that no slicing made as short as the policy's bound."""
    executor: str = EXECUTOR


def plan_rows(
    scenario: Scenario, choices: Sequence[Choice], processes: int = 1
) -> Iterator[PlanRow]:
    """A row for each policy, as it is done.

    Raises:
        BadValue: a bound that was asked for by name and that no slice can keep.
    """
    for choice in choices:
        _refuse_impossible(scenario, choice)
    alone = list(simulate_all(scenario.alone(), processes))
    for choice in choices:
        shared = list(simulate_all(scenario.under(choice.create), processes))
        yield _row(scenario, choice, shared, alone)


def _refuse_impossible(scenario: Scenario, choice: Choice) -> None:
    bound_ns = choice.options.get("turnaround_ns")
    if bound_ns is None:
        return
    shortest_ns = choice.create().longest_run_ns(scenario.best_effort_unit)
    if shortest_ns > bound_ns:
        raise BadValue(
            f"{choice}: a unit of {format_seconds(scenario.best_effort_ns / 1e9)} in "
            f"{scenario.most_slices} slices, each {format_seconds(scenario.slice_cost_ns / 1e9)} "
            f"longer than its share, has none shorter than {shortest_ns / 1e6:.10g}ms; "
            "choose at least that as turnaround, or more slices"
        )


def _row(
    scenario: Scenario, choice: Choice, shared: list[DeviceResult], alone: list[DeviceResult]
) -> PlanRow:
    jobs = [result.jobs[SERVES] for result in shared]
    runs = sum(result.runs for result in shared)
    left_ns = sum(result.duration_ns - result.busy_ns for result in alone)
    policy, unit = choice.create(), scenario.best_effort_unit
    bounds = [
        policy.high_wait_ns(Longest(policy.longest_run_ns(unit, absent), scenario.high_unit_ns))
        for absent in (0, 1 << 62)
    ]
    return PlanRow(
        policy=str(choice),
        response=_ratios(
            [job.response_ns() for job in jobs], [r.jobs[SERVES].response_ns() for r in alone]
        ),
        service=_ratios(
            [job.service_ns() for job in jobs], [r.jobs[SERVES].service_ns() for r in alone]
        ),
        best_effort_of_left=sum(r.jobs[TRAINS].useful_ns for r in shared) / left_ns,
        high_wait_ns=bounds[0],
        high_wait_first_ns=bounds[1],
        runs_beside=policy.capacity > 1,
        most_backlog=max(int(job.backlog(job.arrivals_ns).max(initial=0)) for job in jobs),
        unstable_devices=sum(job.is_unstable() for job in jobs),
        beyond_bound=sum(result.beyond_bound for result in shared) / max(1, runs),
    )


def _ratios(
    shared: Sequence[np.ndarray[tuple[int], np.dtype[np.int64]]],
    alone: Sequence[np.ndarray[tuple[int], np.dtype[np.int64]]],
) -> tuple[Ratio, ...]:
    ours, theirs = _floats(shared), _floats(alone)
    return tuple(_ratio(tail(ours, q), tail(theirs, q)) for q in QUANTILES)


def _floats(arrays: Sequence[np.ndarray[tuple[int], np.dtype[np.int64]]]) -> list[FloatArray]:
    return [array.astype(np.float64) for array in arrays]


def _ratio(shared: Tail, alone: Tail) -> Ratio:
    if not alone.value or shared.value is None or shared.low is None or shared.high is None:
        return Ratio(None)
    return Ratio(shared.value / alone.value, shared.low / alone.value, shared.high / alone.value)
