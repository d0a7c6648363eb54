"""The tables of a comparison of remote systems, and the same numbers as CSV and LaTeX."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence

from remora.experiments.disaggregation_claims import bytes_per_step, claims_table, judged
from remora.experiments.disaggregation_published import LOCAL
from remora.experiments.disaggregation_rows import NAIVE
from remora.experiments.speedups import Speedup, speedups
from remora.lab.report import numbers
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

Trials = Sequence[Trial]


def shown_rows(analysis: Analysis) -> list[ArmRow]:
    """Native once, and every system."""
    return [row for row in arm_rows(analysis) if row.arm.role in ("baseline", "system")]


def speedup_tables(analysis: Analysis, trials: Trials) -> tuple[TextTable, ...]:
    """A table a workload: step and token, and how many times faster than local and than naive,
    where that was run.
    """
    bases = {"local": LOCAL, "naive": NAIVE}
    found = {words: _keyed(speedups(analysis, trials, base)) for words, base in bases.items()}
    return tuple(
        _speedup_table(
            name, rows, {w: found[w] for w in bases if any(r.arm.label == bases[w] for r in rows)}
        )
        for name, rows in by_workload(shown_rows(analysis)).items()
    )


Keyed = Mapping[tuple[str, str], Speedup]


def _keyed(found: Sequence[Speedup]) -> Keyed:
    return {(each.workload, each.label): each for each in found}


def _speedup_table(name: str, rows: Sequence[ArmRow], bases: Mapping[str, Keyed]) -> TextTable:
    tokens = any(row.cell.work_unit == "tokens" for row in rows)
    titles = (
        *("Step, ms", "First token, ms", "A token, ms" if tokens else "A unit of work, ms"),
        *(title for base in bases for title in (f"× {base}", f"Interval, × {base}")),
        *(title for base in bases for title in (f"Cliff’s δ, {base}", f"Hedges’ g, {base}")),
    )
    columns = (Column("Row", numeric=False), *map(Column, titles))
    caption = f"{name}: speed-up over {' and over '.join(bases)}"
    cells = (_speedup_cells(row, list(bases.values())) for row in rows)
    return TextTable(f"speedup-{name}", caption, columns, tuple(cells))


def first_token_ms(row: ArmRow) -> float | None:
    """From a step's begin to its first token; of one that reads a prompt, all of it."""
    if row.arm.workload.endswith("-prefill"):
        return mean(row.cell.step_ms)
    return mean(row.cell.first_unit_ms)


def _speedup_cells(row: ArmRow, bases: Sequence[Keyed]) -> tuple[str, ...]:
    step_ms = mean(row.cell.step_ms)
    mine = [base[row.arm.workload, row.arm.label] for base in bases]
    return (
        row.arm.label,
        absence_text(row) if step_ms is None else numbers.significant(step_ms),
        numbers.significant(first_token_ms(row)),
        numbers.significant(mean(row.cell.unit_ms)),
        *(cell for one in mine for cell in _ratio_cells(one)),
        *(numbers.effect(g) for one in mine for g in (one.cliffs_delta, one.hedges_g)),
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
    """The claims and the speed-ups; needs ``\\usepackage{booktabs,graphicx}``."""
    tables = (claims_table(judged(analysis, trials)), *speedup_tables(analysis, trials))
    head = "% Written by remora; needs \\usepackage{booktabs,graphicx}. Bring it in with \\input."
    name = analysis.plan.experiment
    return "\n".join([head, *(table_latex(each, name, fitted=True) for each in tables)])


def traffic_table(analysis: Analysis) -> TextTable:
    """What crosses in a step and for a unit of work, and once."""
    titles = (
        *("Sent, bytes a step", "Received, bytes a step", "Both, bytes a unit"),
        *("Fewer, than naive", "Captured, s once", "Uploaded, MB once", "Tensors, MB handed over"),
    )
    columns = (Column("Workload", False), Column("Row", False), *map(Column, titles))
    rows = shown_rows(analysis)
    naive = {r.arm.workload: bytes_per_step(r) for r in rows if r.arm.label == NAIVE}
    body = tuple(_traffic_cells(row, naive.get(row.arm.workload)) for row in rows)
    return TextTable("traffic", "What crosses", columns, body)


def _traffic_cells(row: ArmRow, naive: float | None) -> tuple[str, ...]:
    sent, received = row.cost("sent_bytes_per_step"), row.cost("received_bytes_per_step")
    both, units = bytes_per_step(row), row.cell.work_count
    uploaded = mean(row.cell.counts.get("upload_sent_bytes"))
    handed = mean(row.cell.counts.get("tensor_bytes"))
    captured_ms = mean(row.cell.start_up_ms.get("prepare"))
    return (
        row.arm.workload,
        row.arm.label,
        numbers.significant(sent) if row.ran else absence_text(row),
        numbers.significant(received),
        numbers.significant(both / units if both is not None and units else None),
        numbers.ratio(naive / both if naive and both else None),
        numbers.significant(None if captured_ms is None else captured_ms / 1e3),
        numbers.significant(None if uploaded is None else uploaded / 1e6),
        numbers.significant(None if handed is None else handed / 1e6),
    )


def resources_table(analysis: Analysis) -> TextTable:
    """CPU and memory of both processes, and the GPU."""
    titles = (
        *("CPU here, cores", "CPU there, cores", "Peak here, MiB RSS", "There, MiB RSS"),
        *("GPU busy, %", "GPU peak, MiB"),
    )
    columns = (Column("Workload", False), Column("Row", False), *map(Column, titles))
    body = tuple(map(_resource_cells, shown_rows(analysis)))
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
    records = [_record(row, local, naive) for row in shown_rows(analysis)]
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
        "first_token_ms": first_token_ms(row),
        "unit_ms": mean(row.cell.unit_ms),
        "work_count": row.cell.work_count or None,
        "work_unit": row.cell.work_unit,
        **_speedup_record("local", local[key]),
        **_speedup_record("naive", naive[key]),
        "sent_bytes_per_step": row.cost("sent_bytes_per_step"),
        "received_bytes_per_step": row.cost("received_bytes_per_step"),
        "prepare_ms": mean(row.cell.start_up_ms.get("prepare")),
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
