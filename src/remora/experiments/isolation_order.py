"""Do policies come in the published order? Each against the next, block by block.

Tally (ASPLOS'25) has a device that takes whoever came first far behind one that knows priorities,
and that behind one that cuts best-effort work as well. Requests come at the same moments under all
policies of a block, so two of them can be held against each other there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from remora.experiments.isolation_results import P99, Row, Value, ratio
from remora.experiments.isolation_tables import ratio_text
from remora.experiments.isolation_trials import served_by_arm
from remora.lab.report.tables import Column, TextTable
from remora.lab.results import Plan, Trial

EXPECTED = ("fifo", "priority", "priority+min-wait", "priority+slicing")


@dataclass(frozen=True)
class Step:
    """One policy and that which is said to be better."""

    worse: Row
    better: Row
    ratio: Value
    """Response p99 under the first, over that under the second."""

    @property
    def verdict(self) -> str:
        if self.worse.is_unstable or self.better.is_unstable:
            return _by_queues(self.worse, self.better)
        if self.ratio.low is None or self.ratio.high is None:
            return f"INVALID: {self.ratio.reason}" if self.ratio.reason else "undecided"
        if self.ratio.low > 1:
            return "as published"
        return "the other way round" if self.ratio.high < 1 else "undecided"


def _by_queues(worse: Row, better: Row) -> str:
    if not better.is_unstable:
        return "as published: the first queue grows"
    return "both queues grow" if worse.is_unstable else "the other way round: the second grows"


def order_table(plan: Plan, rows: Sequence[Row], trials: Sequence[Trial]) -> TextTable:
    """Every two policies that follow each other in the published order, of each pair."""
    columns = (
        *(Column(title, False) for title in ("Serves", "Trains", "Executor", "Load")),
        *(Column(title, False) for title in ("Policy", "Over")),
        Column("Response p99"),
        Column("Order", False),
    )
    body = tuple(
        (
            *(step.worse.serves, step.worse.trains, step.worse.executor, f"{step.worse.load:g}"),
            *(step.worse.policy, step.better.policy, ratio_text(step.ratio), step.verdict),
        )
        for step in steps(plan, rows, trials)
    )
    caption = "Each policy over the one that is published to be better, in the same block"
    return TextTable("order", caption, columns, body)


def steps(plan: Plan, rows: Sequence[Row], trials: Sequence[Trial]) -> Iterator[Step]:
    """Of each pair, at each load."""
    served = served_by_arm(trials)
    groups: dict[tuple[str, str, str, float], list[Row]] = {}
    for row in rows:
        if not row.is_alone and row.trials and row.policy_name in EXPECTED:
            key = (row.serves, row.trains, row.executor, row.load)
            groups.setdefault(key, []).append(row)
    for mine in groups.values():
        ordered = sorted(mine, key=lambda row: EXPECTED.index(row.policy_name))
        for worse, better in pairwise(ordered):
            both = served[worse.arm.name], served[better.arm.name]
            yield Step(worse, better, ratio(plan, *both, "response_ms", P99))
