"""The tables of the isolation experiment. Every row names its executor."""

from __future__ import annotations

from collections.abc import Sequence

from remora.experiments.isolation_results import Row, Value
from remora.experiments.isolation_rows import AGAIN
from remora.experiments.isolation_trials import QUANTILES
from remora.lab.report import numbers
from remora.lab.report.tables import Column, TextTable, tail_text
from remora.lab.results import Tail

_WHO = tuple(Column(title, False) for title in ("Serves", "Row", "Executor", "Load"))
_NAMES = tuple(f"p{100 * q:g}" for q in QUANTILES)


def headlines(rows: Sequence[Row]) -> tuple[TextTable, ...]:
    """For a screen: what a user asks, a table for each workload that serves and each executor."""
    groups: dict[tuple[str, str, float], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.serves, row.executor, row.load), []).append(row)
    return tuple(_headline(*key, found) for key, found in groups.items())


def _headline(serves: str, executor: str, load: float, rows: Sequence[Row]) -> TextTable:
    columns = (
        Column("Beside", False),
        *map(Column, ("Response p99 × alone", "Service p99 × alone", "Training, of what is left")),
        Column("Response p99", False),
    )
    names = [(row.trains, row.policy_name) for row in rows]
    body = tuple(
        (
            _beside(row, is_one=names.count((row.trains, row.policy_name)) == 1),
            *_headline_cells(row),
        )
        for row in rows
    )
    return TextTable("headline", f"{serves} at load {load:g}, by {executor}", columns, body)


def _beside(row: Row, *, is_one: bool) -> str:
    """Without the policy's options, where there is one of its name."""
    if row.is_alone:
        return "nothing, again" if AGAIN in row.arm.label else "nothing"
    return f"{row.trains}, {row.policy_name if is_one else row.policy}"


def _headline_cells(row: Row) -> tuple[str, ...]:
    if not row.trials:
        kind = "not run" if row.failure is None else row.failure.kind
        return (kind, numbers.NONE, numbers.NONE, "failed")
    return (
        ratio_text(row.response_ratio[-1]),
        ratio_text(row.service_ratio[-1]),
        value_text(row.training_of_left),
        row.verdict,
    )


def latency_table(rows: Sequence[Row]) -> TextTable:
    """Response and service: percentiles over trials with bounds, and × alone."""
    columns = (
        *_WHO,
        *(Column(f"Response {name}, ms") for name in _NAMES),
        *(Column(f"Service {name}, ms") for name in _NAMES),
    )
    body = tuple((*_who(row), *_cells(row, row.response_ms, row.service_ms)) for row in rows)
    caption = (
        "Latency with bounds at 95 %: response from a request's arrival, service from when it was "
        "turned to"
    )
    return TextTable("latency", caption, columns, body)


def _cells(row: Row, response: Sequence[Tail], service: Sequence[Tail]) -> tuple[str, ...]:
    if not row.trials:
        return (absence(row), *[numbers.NONE] * (2 * len(QUANTILES) - 1))
    return (*map(tail_text, response), *map(tail_text, service))


def isolation_table(rows: Sequence[Row]) -> TextTable:
    """× alone within blocks, with the verdict on the response p99."""
    columns = (
        *_WHO,
        *(Column(f"Response {name} × alone") for name in _NAMES),
        *(Column(f"Service {name} × alone") for name in _NAMES),
        *(Column("Longest queue"), Column("Response p99", False)),
    )
    body = tuple((*_who(row), *_ratio_cells(row)) for row in rows)
    caption = "Percentiles over those of serving alone in the same block, with intervals"
    return TextTable("isolation", caption, columns, body)


def _ratio_cells(row: Row) -> tuple[str, ...]:
    if not row.trials:
        return (absence(row), *[numbers.NONE] * (2 * len(QUANTILES) - 1), numbers.NONE, "failed")
    return (
        *map(ratio_text, row.response_ratio),
        *map(ratio_text, row.service_ratio),
        queue_text(row),
        row.verdict,
    )


def throughput_table(rows: Sequence[Row]) -> TextTable:
    """What both jobs got done, and what it took."""
    titles = (
        *("In time within, ms", "In time, a second", "In time, %", "Serving × alone"),
        *("Training × alone", "Training, of what is left", "System", "Cores busy, %"),
        *("Serving, MiB RSS", "Training, MiB RSS"),
    )
    columns = (*_WHO, *map(Column, titles))
    body = tuple((*_who(row), *_throughput_cells(row)) for row in rows)
    caption = (
        "What both got done. In time is a request answered within the response p99 of serving "
        "alone; what is left is the share of the time in which serving alone leaves the cores idle"
    )
    return TextTable("throughput", caption, columns, body)


def _throughput_cells(row: Row) -> tuple[str, ...]:
    if not row.trials:
        return (absence(row), *[numbers.NONE] * 9)
    return (
        numbers.significant(row.bound_ms) if row.bound_ms is not None else "INVALID",
        numbers.significant(row.goodput_per_s.mean),
        _percent(row.in_time),
        value_text(row.serving),
        value_text(row.training),
        value_text(row.training_of_left),
        numbers.significant(row.system),
        _percent(row.cores_busy),
        numbers.significant(row.serving_rss_mib),
        numbers.significant(row.training_rss_mib),
    )


def _who(row: Row) -> tuple[str, ...]:
    return (row.serves, row.arm.label, row.executor, f"{row.load:g}")


def absence(row: Row) -> str:
    """Why a row has no numbers."""
    if row.failure is None:
        return "not run"
    return f"{row.failure.kind}: {row.failure.message}"


def queue_text(row: Row) -> str:
    """The longest backlog, and whether it grew."""
    longest = numbers.count(row.most_backlog)
    return (
        f"{longest}, grows ({row.unstable_trials} of {row.trials})" if row.is_unstable else longest
    )


def ratio_text(value: Value) -> str:
    """A ratio and its interval, or that it is not to be had."""
    if value.mean is None:
        return "INVALID" if value.reason else numbers.NONE
    places = numbers.ratio_places(value.mean)
    return f"{numbers.ratio(value.mean)} {numbers.interval(value.low, value.high, places)}"


def value_text(value: Value) -> str:
    if value.mean is None:
        return numbers.NONE
    places = numbers.ratio_places(value.mean)
    return f"{numbers.fixed(value.mean, places)} {numbers.interval(value.low, value.high, places)}"


def _percent(share: float | None) -> str:
    return numbers.significant(None if share is None else 100 * share)
