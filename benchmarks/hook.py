"""What standing before operators costs: the compiled hook and its twin beside nothing, gate open.

Every round has all arms in random order; an arm's added cost is its time in a round less that of
nothing in the same round, so what the machine does between rounds cancels. Times are the thread's
own CPU time: none of this waits, and other programs do not count.

Run it with ``python -m benchmarks hook``; ``python -m benchmarks.hook`` prints and writes nothing.
"""

from __future__ import annotations

import array
import contextlib
import random
import statistics
import time
from collections.abc import Callable, Iterator

import torch

from benchmarks.page import table
from benchmarks.tap import median_interval
from remora.lab.statistics.ratios import log_ratios, mean_interval, mean_ratio
from remora.share.interception.contract import Gate
from remora.share.interception.registry import NAMES, create
from remora.workloads import registry as workloads

NOTHING = "nothing"
ARMS = (NOTHING, *NAMES)
TARGET_NS = 300
OPERATORS, ROUNDS = 5_000, 41
STEPS = {"bert-base-forward": 3, "mlp-train": 60}
"""Workloads, and how many steps in a row make some tens of milliseconds."""
STEP_ROUNDS = 31
SEED = 0

Times = dict[str, list[float]]


def section() -> str:
    """Both tables as Markdown, with how they were measured."""
    torch.set_num_threads(1)
    return (
        f"Gate open, CPU time of the thread, arms in random order within each round. An operator "
        f"is an addition of one element, {OPERATORS:,} in a row, {ROUNDS} rounds; *added* is the "
        f"median over rounds with a 95 % interval, the aim is {TARGET_NS} ns. Steps are those of "
        f"the quick scale, some in a row, {STEP_ROUNDS} rounds; the ratio is the geometric "
        "mean within rounds.\n\n"
        + table(("an operator, ns", "takes", "added", "interval"), _operator_rows())
        + "\n\n"
        + table(("a step", "operators", "ms", "hook", "× nothing", "interval"), _step_rows())
    )


def _operator_rows() -> list[list[str]]:
    x = torch.ones(1)

    def work() -> None:
        for _ in range(OPERATORS):
            torch.add(x, x)

    times, _ = _rounds(work, ROUNDS)
    rows = []
    for arm in ARMS:
        took = [each / OPERATORS for each in times[arm]]
        beside = [each / OPERATORS for each in times[NOTHING]]
        added = sorted(one - other for one, other in zip(took, beside, strict=True))
        low, high = median_interval(added)
        cells = [f"{statistics.median(added):,.0f}", f"{low:,.0f} … {high:,.0f}"]
        rows.append([arm, f"{statistics.median(took):,.0f}", *cells])
    rows[0][2:] = ["–", "–"]
    return rows


def _step_rows() -> list[list[str]]:
    rows = []
    for name, count in STEPS.items():
        session = workloads.get(name).build("quick", torch.device("cpu"))
        try:
            times, operators = _rounds(_row_of(session.step, count), STEP_ROUNDS)
        finally:
            session.close()
        alone_ms = statistics.median(times[NOTHING]) / count / 1e6
        for arm in NAMES:
            ratios = log_ratios(times[arm], times[NOTHING])
            ratio, interval = mean_ratio(ratios), mean_interval(ratios)
            said = "–" if interval is None else f"{interval.low:.4f} … {interval.high:.4f}"
            cells = [f"{operators[arm] / count:,.0f}", f"{alone_ms:.2f}", arm, f"{ratio:.4f}"]
            rows.append([name, *cells, said])
    return rows


def _row_of(step: Callable[[], object], count: int) -> Callable[[], None]:
    def steps() -> None:
        for _ in range(count):
            step()

    return steps


def _rounds(work: Callable[[], object], rounds: int) -> tuple[Times, dict[str, int]]:
    """Nanoseconds of each round, arm by arm, and how many operators passed in one."""
    times: Times = {arm: [] for arm in ARMS}
    operators: dict[str, int] = {}
    draw = random.Random(SEED)
    for number in range(-2, rounds):  # the first two to warm up
        for arm in draw.sample(ARMS, len(ARMS)):
            with _stood(arm) as passed:
                began = time.thread_time_ns()
                work()
                took = time.thread_time_ns() - began
                operators[arm] = passed()
            if number >= 0:
                times[arm].append(took)
    return times, operators


@contextlib.contextmanager
def _stood(arm: str) -> Iterator[Callable[[], int]]:
    if arm == NOTHING:
        yield lambda: 0
        return
    hook = create(arm)
    hook.begin(Gate(memoryview(array.array("I", [0, 0])), lambda: None))
    torch.ones(1).add(1)  # the first operator of a thread costs more
    try:
        yield lambda: hook.operators
    finally:
        hook.end()


if __name__ == "__main__":
    print(section())
