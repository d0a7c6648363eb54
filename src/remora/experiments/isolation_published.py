"""What is published of isolation (Tally, ASPLOS'25: 12 pairs on one GPU), and what is aimed at.

Their latency is timed from when a request was turned to, so it is to be held against our *service*,
and only where a row is of the same kind of executor: what an operating system does to jobs on a CPU
says nothing of a GPU.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from remora.experiments.isolation_results import P99, Row, Value
from remora.experiments.isolation_trials import QUANTILES
from remora.lab.report import numbers
from remora.lab.report.tables import Column, TextTable
from remora.share.system.mechanisms.idle import Idle

AT_LOAD = 0.5
_P99 = QUANTILES.index(P99)


@dataclass(frozen=True)
class Published:
    """One published system: means over 12 pairs at load 0.5, on an A100."""

    name: str
    executors: tuple[str, ...]
    """Ours that could be held against it."""
    service_p99: float
    low: float
    high: float
    training: float
    serving: float
    system: float


_GPU = ("cuda",)
PUBLISHED = (
    Published("time slicing", _GPU, 2.38, 1.77, 2.73, 0.544, 0.907, 1.45),
    Published("MPS", _GPU, 3.90, 1.29, 11.8, 0.873, 0.857, 1.73),
    Published("MPS with priority", _GPU, 2.96, 1.27, 5.81, 0.847, 0.927, 1.77),
    Published("TGS", _GPU, 2.77, 1.22, 5.11, 0.787, 0.950, 1.74),
    Published("Tally", _GPU, 1.048, 1.01, 1.10, 0.443, 1.00, 1.44),
    Published("Tally, no transform", _GPU, 1.31, 1.03, 2.46, 0.505, 1.00, 1.51),
    Published("Tally, space sharing", _GPU, 6.89, 1.27, 42.4, 0.853, 0.851, 1.70),
)


@dataclass(frozen=True)
class Aim:
    """What a policy of an executor is to reach at load 0.5."""

    executor: str
    policy: str
    """Whatever its options."""
    words: str
    read: Callable[[Row], Value]
    at_most: float | None = None
    at_least: float | None = None

    def verdict(self, value: Value) -> str:
        """Of an interval: a mean alone decides nothing."""
        if value.mean is None:
            return f"INVALID: {value.reason}" if value.reason else "undecided"
        if value.low is None or value.high is None:
            return "undecided"
        if self.at_most is not None:
            within, beyond = value.high <= self.at_most, value.low > self.at_most
        else:
            least = self.at_least or 0.0
            within, beyond = value.low >= least, value.high < least
        return "reached" if within else "missed" if beyond else "undecided"

    @property
    def bound(self) -> str:
        if self.at_most is not None:
            return f"≤ {self.at_most:g}"
        return f"≥ {self.at_least:g}"


def _response(row: Row) -> Value:
    return row.response_ratio[_P99] if row.response_ratio else Value(None)


def _service(row: Row) -> Value:
    return row.service_ratio[_P99] if row.service_ratio else Value(None)


def _left(row: Row) -> Value:
    return row.training_of_left


_SYSTEM, _DEVICE = ("operating-system", Idle.name), ("software-device", "priority+slicing")
RESPONSE = Aim(*_SYSTEM, "response p99 × alone", _response, at_most=1.05)
LEFT = Aim(*_SYSTEM, "training, of what serving leaves", _left, at_least=0.97)
AIMS = (
    RESPONSE,
    LEFT,
    Aim(*_DEVICE, "response p99 × alone", _response, at_most=1.10),
    Aim(*_DEVICE, "service p99 × alone", _service, at_most=1.03),
)


def aims_table(rows: Sequence[Row]) -> TextTable:
    """Each aim beside what every pair it is about came to."""
    columns = (
        *(Column(title, False) for title in ("Serves", "Trains", "Executor", "Policy", "What")),
        *(Column("Aim"), Column("Here"), Column("Interval"), Column("Verdict", False)),
    )
    caption = "What is aimed at, beside what was measured"
    return TextTable("aims", caption, columns, tuple(_aims(rows)))


def _aims(rows: Sequence[Row]) -> Iterator[tuple[str, ...]]:
    for aim in AIMS:
        for row in rows:
            about = (row.executor, row.policy_name) == (aim.executor, aim.policy)
            if row.is_alone or not about or row.load != AT_LOAD:
                continue
            value = aim.read(row)
            state = "unstable" if row.is_unstable else aim.verdict(value)
            if row.alone_is_unstable:
                state = "void: alone is unstable"
            yield (
                *(row.serves, row.trains, row.executor, row.policy, aim.words, aim.bound),
                *(numbers.significant(value.mean), numbers.interval(value.low, value.high)),
                state if row.trials else "failed",
            )


def published_table(rows: Sequence[Row]) -> TextTable:
    """Published means, and which rows of this run may be held against them."""
    titles = ("Service p99 × alone", "Least–most", "Training", "Serving", "System")
    columns = (Column("Published", False), *map(Column, titles), Column("Beside ours", False))
    body = tuple(
        (
            each.name,
            *(numbers.ratio(each.service_p99), f"{each.low:g}–{each.high:g}"),
            *(f"{each.training:g}", f"{each.serving:g}", f"{each.system:g}"),
            _comparable(each, rows),
        )
        for each in PUBLISHED
    )
    caption = (
        "Published means over 12 pairs on one GPU at load 0.5; their latency begins when a request "
        "is turned to, so queues are not in it"
    )
    return TextTable("published", caption, columns, body)


def _comparable(published: Published, rows: Sequence[Row]) -> str:
    found = [row for row in rows if row.executor in published.executors and not row.is_alone]
    if found:
        return ", ".join(dict.fromkeys(f"{row.policy} ({row.executor})" for row in found))
    ours = ", ".join(dict.fromkeys(row.executor for row in rows))
    return f"none: a GPU's, and the rows here are of executor {ours}"
