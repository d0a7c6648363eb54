"""What the report of the isolation experiment shows beside what every report does."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from remora.core.colours import Palette
from remora.experiments.isolation_files import files
from remora.experiments.isolation_order import order_table
from remora.experiments.isolation_published import aims_table, published_table
from remora.experiments.isolation_results import P99, Row, Value, rows
from remora.experiments.isolation_tables import isolation_table, latency_table, throughput_table
from remora.experiments.isolation_trials import QUANTILES
from remora.lab.report.curves import Line, Panel, Point
from remora.lab.report.figures.bars import Bar, BarChart, Group, draw_bars
from remora.lab.report.figures.canvas import Sheet, Variant
from remora.lab.report.figures.catalogue import Figure
from remora.lab.report.figures.curves import Chart, draw_panels
from remora.lab.report.tables import TextTable
from remora.lab.results import Analysis, Trial

_P99 = QUANTILES.index(P99)
Trials = Sequence[Trial]


def figures() -> tuple[Figure, ...]:
    """All of them, in the order they are shown."""
    return (
        Figure(
            "end_to_end",
            "Isolation, end to end",
            "Response p99 × serving alone in the same block, on a logarithmic axis, with its "
            "interval: 1 is a job that does not notice. A letter stands for each executor and "
            "policy. A bar is missing where there were too few requests for a p99, or where the "
            "queue grew: then no percentile means anything.",
            "Bars of response p99 × alone by pair, executor and policy; the numbers are those of "
            "the table of isolation.",
            lambda analysis, trials: any(row.trials for row in rows(analysis, trials)),
            _draw_end_to_end,
            shown=_tables,
            beside=files,
        ),
        Figure(
            "throughput_share",
            "What the training got",
            "Training steps over those of the same job alone, of what serving alone leaves of the "
            "cores, with its interval, on a logarithmic axis: 1 is all of it. More is taken from "
            "serving.",
            "Bars of the share of what is left that training got, by pair, executor and policy.",
            lambda analysis, trials: any(row.training.mean for row in rows(analysis, trials)),
            _draw_training,
        ),
        Figure(
            "sensitivity",
            "Isolation by load",
            "Response p99 × serving alone at the same load, with its interval, one line an "
            "executor, policy and training. Loads at which the queue grew have no point.",
            "Lines of response p99 × alone against load; the numbers are those of the table of "
            "isolation.",
            lambda analysis, trials: bool(_panels(rows(analysis, trials))),
            _draw_sensitivity,
        ),
    )


def _tables(analysis: Analysis, trials: Trials) -> tuple[TextTable, ...]:
    found = rows(analysis, trials)
    tables = (isolation_table(found), throughput_table(found), latency_table(found))
    order = order_table(analysis.plan, found, trials)
    return (*tables, aims_table(found), *([order] if order.rows else []), published_table(found))


def _kind(row: Row) -> str:
    return f"{row.policy} ({row.executor})"


def _draw_end_to_end(
    analysis: Analysis, trials: Trials, palette: Palette, variant: Variant
) -> Sheet:
    return _bars(rows(analysis, trials), _p99, palette, variant)


def _p99(row: Row) -> Value:
    if row.is_unstable or not row.response_ratio:
        return Value(None)
    return row.response_ratio[_P99]


def _draw_training(analysis: Analysis, trials: Trials, palette: Palette, variant: Variant) -> Sheet:
    return _bars(rows(analysis, trials), lambda row: row.training_of_left, palette, variant)


def _bars(
    found: Sequence[Row], read: Callable[[Row], Value], palette: Palette, variant: Variant
) -> Sheet:
    """A group for each pair and load, a bar for each executor and policy."""
    shared = [row for row in found if not row.is_alone]
    kinds = list(dict.fromkeys(map(_kind, shared)))
    groups: dict[tuple[str, str, float], dict[str, Row]] = {}
    for row in shared:
        groups.setdefault((row.serves, row.trains, row.load), {})[_kind(row)] = row
    chart = BarChart(
        kinds,
        "",
        [
            Group(
                serves,
                [_bar(read(mine[kind]) if kind in mine else Value(None)) for kind in kinds],
                below=f"+ {trains}, {load:g}",
            )
            for (serves, trains, load), mine in groups.items()
        ],
    )
    return draw_bars(chart, palette, variant)


def _bar(value: Value) -> Bar:
    return Bar(value.mean or None, value.low, value.high)


def _draw_sensitivity(
    analysis: Analysis, trials: Trials, palette: Palette, variant: Variant
) -> Sheet:
    chart = Chart("load", "response p99 × alone", reference=1.0)
    return draw_panels(_panels(rows(analysis, trials)), chart, palette, variant)


def _panels(found: Sequence[Row]) -> list[Panel]:
    """A panel for each workload that serves, of the lines that have two loads or more."""
    panels = []
    for serves in dict.fromkeys(row.serves for row in found):
        lines = tuple(_lines([row for row in found if row.serves == serves]))
        if lines:
            panels.append(Panel(serves, lines))
    return panels


def _lines(found: Sequence[Row]) -> Iterator[Line]:
    groups: dict[str, list[Row]] = {}
    for row in found:
        if not row.is_alone and _p99(row).mean is not None:
            groups.setdefault(f"{_kind(row)}, {row.trains}", []).append(row)
    for words, mine in groups.items():
        if len(mine) > 1:
            points = tuple(map(_point, sorted(mine, key=lambda row: row.load)))
            yield Line(words, words, points)


def _point(row: Row) -> Point:
    value = _p99(row)
    return Point(row.load, value.mean or 0.0, value.low, value.high)
