"""What the report of a comparison of remote systems shows beside what every report does.

Three figures (latency, traffic, GPU), each with its tables, and the speed-ups as LaTeX. A number
that is not known is a dash, never 0; a row that failed or did other work says so in its place.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence

from remora.core.colours import Palette
from remora.experiments.disaggregation_claims import bytes_per_step, claims_table, judged
from remora.experiments.disaggregation_published import CLAIMS, LOCAL
from remora.experiments.disaggregation_rows import CAPTURED, FULL, LOCAL_REMOTE, NAIVE, PEERS
from remora.experiments.speedups import Speedup, speedups
from remora.lab.report import numbers
from remora.lab.report.figures.bars import Bar, BarChart, Group, draw_bars
from remora.lab.report.figures.canvas import Sheet, Variant, sheet
from remora.lab.report.figures.catalogue import Figure
from remora.lab.report.latex import table_latex
from remora.lab.report.tables import (
    ArmRow,
    Column,
    TextTable,
    absence_text,
    arm_rows,
    by_workload,
    mean,
)
from remora.lab.results import Analysis, Interval, Trial

_DRAWN = (CAPTURED, NAIVE, LOCAL_REMOTE, FULL, *PEERS)
"""Rows that the bars show; the tables show all."""
_UNKNOWN = "GPU utilisation is unknown: this run was on a CPU, or nothing could tell."
Trials = Sequence[Trial]


def figures() -> tuple[Figure, ...]:
    """All of them, in the order they are shown."""
    return (
        Figure(
            "latency_comparison",
            "Latency against local",
            "Time a step × local in the same blocks, on a logarithmic axis, with its interval; "
            "below 1 is faster. A letter stands for each row; diamonds are the middle of the "
            "published range.",
            "Bars of time a step × local by workload and row; the numbers are those of "
            "latency_comparison.csv.",
            lambda analysis, trials: bool(_rows(analysis)),
            _draw_latency,
            data="latency_comparison.csv",
            table=latency_csv,
            shown=lambda analysis, trials: (
                claims_table(judged(analysis, trials)),
                *speedup_tables(analysis, trials),
            ),
            beside=lambda analysis, trials: {"speedup_table.tex": speedup_latex(analysis, trials)},
        ),
        Figure(
            "network_traffic",
            "Bytes a step",
            "Bytes that crossed in a step, both ways, on a logarithmic axis, as the sockets of the "
            "calling process counted them. What it took to put the model there is not among them "
            "and is in the table. Ray moves tensors of 100 KiB and more through shared memory, "
            "which no socket counts.",
            "Bars of bytes a step by workload and row; the numbers are those of the table below.",
            lambda analysis, trials: any(bytes_per_step(row) for row in _rows(analysis)),
            _draw_traffic,
            shown=lambda analysis, trials: (traffic_table(analysis),),
        ),
        Figure(
            "gpu_utilization",
            "CPU and GPU",
            "Share of the time that the GPU was busy, where it is known; below it what the calling "
            "process and the one with the model take of CPU and memory.",
            "GPU utilisation by workload and row, or that it is unknown.",
            lambda analysis, trials: bool(_rows(analysis)),
            _draw_gpu,
            shown=lambda analysis, trials: (resources_table(analysis),),
        ),
    )


def _rows(analysis: Analysis) -> list[ArmRow]:
    return [row for row in arm_rows(analysis) if row.arm.role in ("baseline", "system")]


# ---------------------------------------------------------------- drawings


def _draw_latency(analysis: Analysis, trials: Trials, palette: Palette, variant: Variant) -> Sheet:
    def bar(row: ArmRow) -> Bar:
        versus = row.comparison
        between = versus.interval if versus is not None else None
        return Bar(
            value=None if versus is None or versus.verdict == "void" else versus.ratio,
            low=between.low if between is not None else None,
            high=between.high if between is not None else None,
            reference=_published(row),
        )

    return draw_bars(_chart(analysis, bar), palette, variant)


def _published(row: ArmRow) -> float | None:
    """The middle of the published range, as a time × local."""
    for claim in CLAIMS:
        mine = claim.kind == "speed" and (claim.row, claim.base) == (row.arm.label, LOCAL)
        if mine and row.arm.workload.endswith(claim.workload) and claim.low and claim.high:
            return 2 / (claim.low + claim.high)
    return None


def _draw_traffic(analysis: Analysis, trials: Trials, palette: Palette, variant: Variant) -> Sheet:
    def bar(row: ArmRow) -> Bar:
        return Bar(bytes_per_step(row) or None)

    return draw_bars(_chart(analysis, bar, write=_bytes), palette, variant)


def _draw_gpu(analysis: Analysis, trials: Trials, palette: Palette, variant: Variant) -> Sheet:
    if all(row.cost("gpu_utilization") is None for row in _rows(analysis)):
        empty = sheet(palette, variant, 60)
        words = _UNKNOWN if variant == "wide" else "GPU utilisation is unknown here."
        empty.text(0, 30, words, "muted")
        return empty

    def bar(row: ArmRow) -> Bar:
        busy = row.cost("gpu_utilization")
        return Bar(None if busy is None else max(100 * busy, 1.0))

    return draw_bars(_chart(analysis, bar, write="{:g} %".format), palette, variant)


def _chart(
    analysis: Analysis,
    bar: Callable[[ArmRow], Bar],
    write: Callable[[float], str] = "{:g}×".format,
) -> BarChart:
    """A group for each workload, a bar for each drawn row that any of them has."""
    rows = [row for row in _rows(analysis) if row.arm.label in _DRAWN]
    kinds = list(dict.fromkeys(row.arm.label for row in rows))
    groups = [
        Group(name, _bars({row.arm.label: row for row in mine}, kinds, bar))
        for name, mine in by_workload(rows).items()
    ]
    return BarChart(kinds, "middle of the published range", groups, write=write)


def _bars(
    rows: Mapping[str, ArmRow], kinds: Sequence[str], bar: Callable[[ArmRow], Bar]
) -> list[Bar]:
    return [bar(rows[kind]) if kind in rows else Bar(None) for kind in kinds]


def _bytes(value: float) -> str:
    for unit in ("B", "kB", "MB"):
        if value < 1000:
            return f"{value:g} {unit}"
        value /= 1000
    return f"{value:g} GB"


# ---------------------------------------------------------------- tables


def speedup_tables(analysis: Analysis, trials: Trials) -> tuple[TextTable, ...]:
    """A table a workload: step and token, and how many times faster than local and than naive."""
    against_local = _keyed(speedups(analysis, trials, LOCAL))
    against_naive = _keyed(speedups(analysis, trials, NAIVE))
    titles = (
        *("Step, ms", "A unit of work, ms", "First token, ms"),
        *("× local", "Interval", "× naive", "Interval", "Cliff’s δ, local", "Hedges’ g, local"),
        *("Cliff’s δ, naive", "Hedges’ g, naive"),
    )
    columns = (Column("Row", numeric=False), *map(Column, titles))
    return tuple(
        TextTable(
            f"speedup-{name}",
            f"{name}: speed-up over local and over naive",
            columns,
            tuple(_speedup_cells(row, against_local, against_naive) for row in rows),
        )
        for name, rows in by_workload(_rows(analysis)).items()
    )


Keyed = Mapping[tuple[str, str], Speedup]


def _keyed(found: Sequence[Speedup]) -> Keyed:
    return {(each.workload, each.label): each for each in found}


def _speedup_cells(row: ArmRow, local: Keyed, naive: Keyed) -> tuple[str, ...]:
    step_ms, units = mean(row.cell.step_ms), row.cell.work_count
    mine, than_naive = (found[row.arm.workload, row.arm.label] for found in (local, naive))
    first_ms = step_ms if row.arm.workload.endswith("-prefill") else None
    return (
        row.arm.label,
        absence_text(row) if step_ms is None else numbers.significant(step_ms),
        numbers.significant(step_ms / units if step_ms is not None and units else None),
        numbers.significant(first_ms),
        *_ratio_cells(mine),
        *_ratio_cells(than_naive),
        numbers.effect(mine.cliffs_delta),
        numbers.effect(mine.hedges_g),
        numbers.effect(than_naive.cliffs_delta),
        numbers.effect(than_naive.hedges_g),
    )


def _ratio_cells(one: Speedup) -> tuple[str, str]:
    if one.value is None:
        return (one.absence, numbers.NONE)
    return (numbers.ratio(one.value), _interval(one.interval, one.value))


def _interval(between: Interval | None, value: float) -> str:
    if between is None:
        return numbers.NONE
    return numbers.interval(between.low, between.high, numbers.ratio_places(value))


def speedup_latex(analysis: Analysis, trials: Trials) -> str:
    """The claims and the speed-ups; needs ``\\usepackage{booktabs}``."""
    tables = (claims_table(judged(analysis, trials)), *speedup_tables(analysis, trials))
    head = "% Written by remora; needs \\usepackage{booktabs}. Bring it in with \\input."
    return "\n".join([head, *(table_latex(each, analysis.plan.experiment) for each in tables)])


def traffic_table(analysis: Analysis) -> TextTable:
    """What crosses in a step and for a unit of work, and once."""
    titles = (
        *("Sent a step, bytes", "Received a step, bytes", "A unit of work, bytes"),
        *("Fewer than naive", "Upload once, MB", "Tensors handed over, MB"),
    )
    columns = (Column("Workload", False), Column("Row", False), *map(Column, titles))
    rows = _rows(analysis)
    naive = {r.arm.workload: bytes_per_step(r) for r in rows if r.arm.label == NAIVE}
    body = tuple(_traffic_cells(row, naive.get(row.arm.workload)) for row in rows)
    return TextTable("traffic", "What crosses", columns, body)


def _traffic_cells(row: ArmRow, naive: float | None) -> tuple[str, ...]:
    sent, received = row.cost("sent_bytes_per_step"), row.cost("received_bytes_per_step")
    both, units = bytes_per_step(row), row.cell.work_count
    uploaded = mean(row.cell.counts.get("upload_sent_bytes"))
    handed = mean(row.cell.counts.get("tensor_bytes"))
    return (
        row.arm.workload,
        row.arm.label,
        numbers.significant(sent) if row.ran else absence_text(row),
        numbers.significant(received),
        numbers.significant(both / units if both is not None and units else None),
        numbers.ratio(naive / both if naive and both else None),
        numbers.significant(None if uploaded is None else uploaded / 1e6),
        numbers.significant(None if handed is None else handed / 1e6),
    )


def resources_table(analysis: Analysis) -> TextTable:
    """CPU and memory of both processes, and the GPU."""
    titles = (
        *("CPU here, cores", "CPU there, cores", "Peak RSS here, MiB", "RSS there, MiB"),
        *("GPU busy, %", "GPU peak, MiB"),
    )
    columns = (Column("Workload", False), Column("Row", False), *map(Column, titles))
    body = tuple(map(_resource_cells, _rows(analysis)))
    return TextTable("resources", "CPU, GPU and memory; a dash is unknown", columns, body)


def _resource_cells(row: ArmRow) -> tuple[str, ...]:
    step_ms, busy = mean(row.cell.step_ms), row.cost("gpu_utilization")
    here, there = row.cost("cpu_ms_per_step"), mean(row.cell.counts.get("server_cpu_ms_per_step"))
    return (
        row.arm.workload,
        row.arm.label,
        absence_text(row) if step_ms is None else _share(here, step_ms),
        _share(there, step_ms),
        numbers.significant(row.cost("peak_rss_mib")),
        numbers.significant(mean(row.cell.counts.get("server_rss_mib"))),
        numbers.significant(None if busy is None else 100 * busy),
        numbers.significant(row.cost("gpu_peak_mib")),
    )


def _share(cpu_ms: float | None, step_ms: float | None) -> str:
    return numbers.significant(cpu_ms / step_ms if cpu_ms is not None and step_ms else None)


def latency_csv(analysis: Analysis, trials: Trials) -> str:
    """One row an arm: step, speed-ups with intervals and effect sizes, bytes, CPU, GPU."""
    local, naive = (_keyed(speedups(analysis, trials, base)) for base in (LOCAL, NAIVE))
    records = [_record(row, local, naive) for row in _rows(analysis)]
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(records[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    return text.getvalue()


def _record(row: ArmRow, local: Keyed, naive: Keyed) -> dict[str, str | float | None]:
    key = (row.arm.workload, row.arm.label)
    return {
        "workload": row.arm.workload,
        "row": row.arm.label,
        "state": "measured" if row.ran else absence_text(row),
        "step_ms": mean(row.cell.step_ms),
        "work_count": row.cell.work_count or None,
        "work_unit": row.cell.work_unit,
        **_speedup_record("local", local[key]),
        **_speedup_record("naive", naive[key]),
        "sent_bytes_per_step": row.cost("sent_bytes_per_step"),
        "received_bytes_per_step": row.cost("received_bytes_per_step"),
        "upload_sent_bytes": mean(row.cell.counts.get("upload_sent_bytes")),
        "cpu_ms_per_step": row.cost("cpu_ms_per_step"),
        "server_cpu_ms_per_step": mean(row.cell.counts.get("server_cpu_ms_per_step")),
        "gpu_utilization": row.cost("gpu_utilization"),
        "gpu_peak_mib": row.cost("gpu_peak_mib"),
    }


def _speedup_record(base: str, one: Speedup) -> dict[str, str | float | None]:
    between = one.interval
    return {
        f"speedup_over_{base}": one.value,
        f"speedup_over_{base}_low": between.low if between else None,
        f"speedup_over_{base}_high": between.high if between else None,
        f"cliffs_delta_{base}": one.cliffs_delta,
        f"hedges_g_{base}": one.hedges_g,
        f"absence_{base}": one.absence or None,
    }
