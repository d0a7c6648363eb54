"""CSV: full precision, units in the column names, an empty field where nothing is known."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence

from remora.lab.report.curves import Line, Panel, Point
from remora.lab.report.tables import (
    ArmRow,
    TrialRow,
    cost_quantities,
    cost_ratio_quantities,
    start_up_phases,
)
from remora.lab.results import Spread, Tail

Value = str | int | float | None
Record = dict[str, Value]


def summary_csv(rows: Sequence[ArmRow]) -> str:
    """One row an arm, every number of its cell and of its comparison."""
    costs, phases = cost_quantities(rows), start_up_phases(rows)
    quantiles = sorted({tail.quantile for row in rows for tail in row.cell.tails_ms})
    ratios = cost_ratio_quantities(rows)
    return _csv(
        {
            **_identity(row),
            **_counts(row),
            **_versus(row),
            **_step(row),
            **_tails(row, quantiles),
            **_spread("stall_ms", row.cell.stall_ms),
            **_spread("durable_ms", row.cell.durable_ms),
            **_spreads("start_up_", "_ms", phases, row.cell.start_up_ms),
            **_spreads("", "", costs, row.cell.costs),
            **_cost_ratios(row, ratios),
        }
        for row in rows
    )


def trials_csv(rows: Sequence[TrialRow]) -> str:
    """One row a trial."""
    return _csv({**_trial(row), **_trial_result(row), **_trial_costs(row)} for row in rows)


def curve_csv(found: Sequence[Panel]) -> str:
    """One row a point of a curve's figure."""
    return _csv(
        _curve_point(panel, line, point, point.row)
        for panel in found
        for line in panel.lines
        for point in line.points
        if point.row is not None
    )


def _curve_point(panel: Panel, line: Line, point: Point, row: ArmRow) -> Record:
    return {
        "panel": panel.title,
        "line": line.words,
        "workload": row.arm.workload,
        "system": line.system,
        "label": row.arm.label,
        "at": point.at,
        "value": point.value,
        "low": point.low,
        "high": point.high,
        "checkpoints_made": row.cell.calls,
        "checkpoints_due": row.cell.calls_due,
        **_spread("stall_ms", row.cell.stall_ms),
        **_spread("durable_ms", row.cell.durable_ms),
    }


def _csv(records: Iterable[Record]) -> str:
    rows = list(records)
    text = io.StringIO()
    if rows:
        writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return text.getvalue()


def _identity(row: ArmRow) -> Record:
    arm = row.arm
    return {"workload": arm.workload, "label": arm.label, "system": arm.system, "role": arm.role,
            "inject_share": arm.inject}  # fmt: skip


def _counts(row: ArmRow) -> Record:
    cell = row.cell
    return {
        "trials": len(cell.trials),
        "failed_trials": len(cell.failures),
        "unsettled_trials": len(cell.unsettled),
        "settled_steps": cell.steps,
        "outlier_steps": cell.outliers,
        "calls": cell.calls,
        "calls_due": cell.calls_due,
    }


def _versus(row: ArmRow) -> Record:
    versus = row.comparison
    between = versus.interval if versus else None
    return {
        "blocks": versus.blocks if versus else None,
        "ratio": versus.ratio if versus else None,
        "ratio_low": between.low if between else None,
        "ratio_high": between.high if between else None,
        "interval_level": between.level if between else None,
        "interval_method": between.method if between else None,
        "p_value": versus.p_value if versus else None,
        "p_holm": versus.p_holm if versus else None,
        "cliffs_delta": versus.cliffs_delta if versus else None,
        "hedges_g": versus.hedges_g if versus else None,
        "verdict": versus.verdict if versus else None,
        "equal_work": versus.equal_work if versus else None,
        "noise_floor_share": row.noise.floor if row.noise else None,
    }


def _step(row: ArmRow) -> Record:
    cell = row.cell
    return {
        **_spread("warmup_steps", cell.warmup_steps),
        **_spread("step_ms", cell.step_ms),
        **_spread("throughput_per_s", cell.throughput),
        "work_unit": cell.work_unit,
    }


def _spread(name: str, spread: Spread | None) -> Record:
    parts = ("count", "mean", "median", "std", "min", "max")
    return {f"{name}_{part}": getattr(spread, part) if spread else None for part in parts}


def _spreads(prefix: str, suffix: str, keys: Sequence[str], found: dict[str, Spread]) -> Record:
    record: Record = {}
    for key in keys:
        name = key.removesuffix("_ms") if suffix == "_ms" else key
        record.update(_spread(f"{prefix}{name}{suffix}", found.get(key)))
    return record


def _tails(row: ArmRow, quantiles: Sequence[float]) -> Record:
    record: Record = {}
    for quantile in quantiles:
        name, tail = f"p{quantile * 100:g}", row.tail(quantile)
        record.update(_tail(name, tail))
    return record


def _tail(name: str, tail: Tail | None) -> Record:
    return {
        f"{name}_ms": tail.value if tail else None,
        f"{name}_low_ms": tail.low if tail else None,
        f"{name}_high_ms": tail.high if tail else None,
        f"{name}_valid": str(tail.valid).lower() if tail else None,
        f"{name}_reason": tail.reason if tail else None,
    }


def _cost_ratios(row: ArmRow, quantities: Sequence[str]) -> Record:
    found = {r.quantity: r for r in row.comparison.cost_ratios} if row.comparison else {}
    record: Record = {}
    for quantity in quantities:
        entry = found.get(quantity)
        between = entry.interval if entry else None
        record[f"{quantity}_ratio"] = entry.ratio if entry else None
        record[f"{quantity}_ratio_low"] = between.low if between else None
        record[f"{quantity}_ratio_high"] = between.high if between else None
    return record


def _trial(row: TrialRow) -> Record:
    spec, trial = row.trial.spec, row.trial
    return {
        "id": spec.id,
        "workload": spec.arm.workload,
        "label": spec.arm.label,
        "system": spec.arm.system,
        "role": spec.arm.role,
        "block": spec.block,
        "position": spec.position,
        "scale": spec.scale,
        "device": spec.device,
        "seed": spec.seed,
        "threads": spec.threads,
        "started": trial.started,
        "status": row.status,
        "failure": trial.failure.message if trial.failure else None,
        "log": trial.failure.log if trial.failure else None,
        "file": row.file,
    }


def _trial_result(row: TrialRow) -> Record:
    samples, summary = row.trial.samples, row.summary
    return {
        "steps": len(samples.step_ns) if samples else None,
        "settled_from_step": summary.settled_from if summary else None,
        "settled_steps": summary.settled_steps if summary else None,
        "mean_settled_step_ms": summary.mean_ms if summary else None,
        "outlier_steps": summary.outliers if summary else None,
        "service_calls": len(samples.stall_ns) if samples else None,
        "work_count_per_step": row.trial.work_count if samples else None,
        "work_unit": row.trial.work_unit,
        "period_steps": row.trial.period if samples else None,
    }


def _trial_costs(row: TrialRow) -> Record:
    start, costs = row.trial.start_up, row.trial.costs
    phases = ("spawn_ns", "import_ns", "build_ns", "attach_ns", "first_step_ns")
    entries = ("drain_ns", "cpu_ns", "peak_rss_bytes", "disk_bytes", "wire_bytes",
               "wire_sent_bytes", "wire_received_bytes",
               "gpu_utilization", "gpu_peak_bytes")  # fmt: skip
    return {
        **{phase: getattr(start, phase) if start else None for phase in phases},
        **{entry: getattr(costs, entry) if costs else None for entry in entries},
        "load_before": row.trial.load_before,
        "steal_share": row.trial.steal_share,
    }
