"""The bars of ``check-overhead`` and its tables: what was published, what each step fires."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence

from remora.core.colours import Palette
from remora.experiments.check_overhead_published import (
    EVERYTHING,
    METHODS,
    PUBLISHED,
    SELECTIVE,
    SETTRACE,
    method_of,
    published,
)
from remora.lab.analysis import CPU, P95
from remora.lab.report import numbers
from remora.lab.report.figures.bars import Bar, BarChart, Group, draw_bars
from remora.lab.report.figures.canvas import Sheet, Variant
from remora.lab.report.figures.catalogue import Figure
from remora.lab.report.tables import (
    ArmRow,
    Column,
    TextTable,
    absence_text,
    arm_rows,
    by_workload,
    interval_text,
    mean,
    verdict_text,
)
from remora.lab.results import Analysis, Trial

_SUFFIX = "-train"
_COUNTS = ("invariants", "triggered", "judged_per_step", "violated")


def figure() -> Figure:
    """Time a step × native by workload and way to watch, on a logarithmic axis."""
    return Figure(
        "watching",
        "What watching costs",
        "Time a step × native in the same blocks, on a logarithmic axis, with its interval; a "
        "letter stands for each way to watch. Diamonds are published values: those of selective "
        "watching are of one step in ten, ours of every step.",
        "Bars of time a step × native by workload and way to watch; the numbers are those of "
        "check-overhead.csv.",
        _drawable,
        _draw,
        data="check-overhead.csv",
        table=lambda analysis, trials: overhead_csv(analysis),
        shown=lambda analysis, trials: (published_table(analysis), fired_table(analysis)),
    )


def _drawable(analysis: Analysis, trials: Sequence[Trial]) -> bool:
    return any(_ratio(row) is not None for row in _watching(analysis))


def _draw(analysis: Analysis, trials: Sequence[Trial], palette: Palette, variant: Variant) -> Sheet:
    return draw_bars(bar_chart(analysis), palette, variant)


def bar_chart(analysis: Analysis) -> BarChart:
    """A group for each workload, a bar for each label that any of them has."""
    rows = _watching(analysis)
    kinds = list(dict.fromkeys(row.arm.label for row in rows))
    groups = [
        _group(name, {row.arm.label: row for row in group}, kinds)
        for name, group in by_workload(rows).items()
    ]
    return BarChart(kinds, "published", groups)


def _watching(analysis: Analysis) -> list[ArmRow]:
    return [row for row in arm_rows(analysis) if row.arm.role == "system"]


def _group(name: str, rows: Mapping[str, ArmRow], kinds: Sequence[str]) -> Group:
    noise = next(iter(rows.values())).noise
    bars = [_bar(rows[kind]) if kind in rows else Bar(None) for kind in kinds]
    return Group(name.removesuffix(_SUFFIX), bars, noise.floor if noise is not None else 0.0)


def _bar(row: ArmRow) -> Bar:
    between = row.comparison.interval if row.comparison is not None else None
    return Bar(
        value=_ratio(row),
        low=between.low if between is not None else None,
        high=between.high if between is not None else None,
        reference=published(row.arm),
    )


def _ratio(row: ArmRow) -> float | None:
    return row.comparison.ratio if row.comparison is not None else None


# ---------------------------------------------------------------- tables


def published_table(analysis: Analysis) -> TextTable:
    """Published and measured side by side, a row a workload."""
    titles = {SETTRACE: "settrace", EVERYTHING: "patch-everything", SELECTIVE: "the deployed 100"}
    columns = [Column("Workload", numeric=False)]
    for method in METHODS:
        columns += [Column(f"{titles[method]}, published"), Column("measured here")]
    body = [
        (name.removesuffix(_SUFFIX), *_side_by_side(name, rows))
        for name, rows in by_workload(_watching(analysis)).items()
    ]
    caption = (
        "Time a step × native: published (selective one step in ten) and measured (every step)"
    )
    return TextTable("published", caption, tuple(columns), tuple(body))


def _side_by_side(workload: str, rows: Sequence[ArmRow]) -> Iterator[str]:
    for method in METHODS:
        ours = [r for r in rows if method_of(r.arm) == method and r.arm.system != "traincheck"]
        yield numbers.ratio(PUBLISHED.get(workload, {}).get(method))
        yield _measured(ours[0]) if ours else numbers.NONE


def _measured(row: ArmRow) -> str:
    versus = row.comparison
    if versus is None or versus.ratio is None:
        return absence_text(row)
    return f"{numbers.ratio(versus.ratio)} {interval_text(versus)}"


def fired_table(analysis: Analysis) -> TextTable:
    """What each set of invariants fires, beside what checking it costs."""
    titles = (
        *("Invariants", "Triggered", "Judged a step", "Violated"),
        *("× native", "Learning, s"),
    )
    columns = (Column("Workload", False), Column("Checked", False), *map(Column, titles))
    body = tuple(_fired(row) for row in _watching(analysis) if row.cell.counts.keys() >= {*_COUNTS})
    return TextTable("fired", "What each set of invariants fires, and what it costs", columns, body)


def _fired(row: ArmRow) -> tuple[str, ...]:
    prepare_ms = mean(row.cell.start_up_ms.get("prepare"))
    return (
        row.arm.workload.removesuffix(_SUFFIX),
        str(row.arm.options.get("invariants", row.arm.label)),
        *(numbers.significant(mean(row.cell.counts[name])) for name in _COUNTS),
        _measured(row),
        numbers.significant(None if not prepare_ms else prepare_ms / 1e3),
    )


def overhead_csv(analysis: Analysis) -> str:
    """One row an arm: published, measured with its interval and floor, p95, CPU, what fired."""
    text = io.StringIO()
    records = [_record(row) for row in _watching(analysis)]
    writer = csv.DictWriter(text, fieldnames=list(records[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    return text.getvalue()


def _record(row: ArmRow) -> dict[str, str | float | None]:
    versus, cell = row.comparison, row.cell
    between = versus.interval if versus is not None else None
    ratios = {each.quantity: each.ratio for each in versus.cost_ratios} if versus else {}
    tail = row.tail(0.95)
    return {
        "workload": row.arm.workload,
        "label": row.arm.label,
        "published": published(row.arm),
        "ratio": _ratio(row),
        "ratio_low": between.low if between else None,
        "ratio_high": between.high if between else None,
        "noise_floor": row.noise.floor if row.noise else None,
        "verdict": absence_text(row) if _ratio(row) is None else verdict_text(row),
        "step_ms": mean(cell.step_ms),
        "p95_ms": tail.value if tail is not None and tail.valid else None,
        "p95_ratio": ratios.get(P95),
        "cpu_ratio": ratios.get(CPU),
        "attach_ms": mean(cell.start_up_ms.get("attach")),
        "first_step_ms": mean(cell.start_up_ms.get("first_step")),
        "prepare_ms": mean(cell.start_up_ms.get("prepare")),
        **{name: mean(cell.counts.get(name)) for name in (*_COUNTS, "records_per_step")},
    }
