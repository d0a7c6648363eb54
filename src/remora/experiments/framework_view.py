"""The second suite's own files: a JSON a workload, and a Markdown table over runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from remora.core.errors import ResultsUnusable
from remora.core.files import write_atomically
from remora.experiments.disaggregation_claims import bytes_per_step
from remora.experiments.disaggregation_tables import first_token_ms
from remora.experiments.framework_overhead import BASELINES, DESIGN, SUITE
from remora.lab.folder import Folder
from remora.lab.report import numbers
from remora.lab.report.markdown import table_markdown
from remora.lab.report.tables import ArmRow, Column, TextTable, absence_text, arm_rows, mean
from remora.lab.results import Analysis, Trial

TABLE = "framework-overhead.md"
PROFILE = (
    *("client_serialize_ms", "client_deserialize_ms"),
    *("client_network_c2s_ms", "client_network_s2c_ms"),
    *("server_duration_ms", "server_executor_time_ms", "server_queue_latency_ms"),
    *("server_plan_ms", "server_placement_ms", "server_execution_ms"),
    *("server_skeletonization_ms", "server_cleanup_ms"),
)
"""As published. Null where a row does not know: what is streamed has no network time of its own,
other libraries have no profile, and nothing here makes skeletons."""


def workload_files(analysis: Analysis, trials: Sequence[Trial]) -> Mapping[str, str]:
    """By file name the JSON of each of the suite's workloads in this run."""
    rows = {(row.arm.workload, row.arm.label): row for row in arm_rows(analysis)}
    present = {workload for workload, _ in rows}
    return {
        f"workload-{name}.json": _json(_workload(name, analysis, rows))
        for name, each in SUITE.items()
        if each.workload in present
    }


def _json(value: object) -> str:
    return msgspec.json.format(msgspec.json.encode(value), indent=2).decode() + "\n"


def _workload(
    name: str, analysis: Analysis, rows: Mapping[tuple[str, str], ArmRow]
) -> dict[str, Any]:
    suite = SUITE[name]
    found = {
        baseline: rows[suite.workload, label]
        for baseline, label in BASELINES.items()
        if (suite.workload, label) in rows
    }
    return {
        "workload": name,
        "category": suite.category,
        "built_as": suite.workload,
        "sizes": analysis.plan.sizes.get(suite.workload, {}),
        "scale": analysis.plan.scale,
        "tag": analysis.plan.tag,
        "results": [
            {"baseline": baseline, "state": _state(row), "aggregates": _aggregates(row)}
            for baseline, row in found.items()
        ],
    }


def _state(row: ArmRow) -> str:
    if not row.ran:
        return absence_text(row)
    void = row.comparison is not None and row.comparison.verdict == "void"
    return "void: it did other work than native" if void else "measured"


def _aggregates(row: ArmRow) -> dict[str, Any]:
    """All null of a row that failed or did other work."""
    believed = _state(row) == "measured"
    both = bytes_per_step(row) if believed else None
    step = row.cell.step_ms if believed else None
    counts = row.cell.counts if believed else {}
    profile = {name: mean(counts.get(f"profile_{name}")) for name in PROFILE}
    return {
        "latency_ms": mean(step),
        "latency_ms_std": step.std if step is not None else None,
        "first_token_ms": first_token_ms(row) if believed else None,
        "unit_ms": mean(row.cell.unit_ms) if believed else None,
        "trials": len(row.cell.trials) if believed else 0,
        "throughput_units_per_s": mean(row.cell.throughput) if believed else None,
        "unit": row.cell.work_unit,
        "units_per_step": row.cell.work_count or None,
        "total_data_mb": None if both is None else both / 1e6,
        "client_cpu_ms": row.cost("cpu_ms_per_step") if believed else None,
        "server_cpu_ms": mean(counts.get("server_cpu_ms_per_step")),
        **profile,
    }


# ---------------------------------------------------------------- over runs


def write_table(folder: Folder, *, latest_only: bool) -> Path:
    """Write the table of this run, or of all runs beside it, into its report; gives its path."""
    runs = [folder.path] if latest_only else list(_runs_beside(folder.path))
    rows = [row for run in runs for row in _table_rows(run)]
    columns = (
        *(Column(title, False) for title in ("Run", "Scale", "Workload", "Baseline")),
        *map(Column, ("Latency, ms", "First token, ms", "Units/s", "Data, MB", "Server, ms")),
    )
    table = TextTable("framework", "Framework overhead", columns, tuple(rows))
    path = folder.path / "report" / TABLE
    write_atomically(path, f"# {DESIGN.title}\n\n{table_markdown(table)}\n".encode())
    return path


def _runs_beside(path: Path) -> Iterator[Path]:
    """Results folders of this experiment in the same place, this one among them, by name."""
    for each in sorted(path.resolve().parent.iterdir()):
        try:
            if Folder.open(each).plan().experiment == DESIGN.name:
                yield each
        except ResultsUnusable:
            continue


def _table_rows(run: Path) -> Iterator[tuple[str, ...]]:
    for name in SUITE:
        file = run / "report" / f"workload-{name}.json"
        if not file.exists():
            continue
        workload = msgspec.json.decode(file.read_bytes())
        called = f"{run.name} ({workload['tag']})" if workload["tag"] else run.name
        for each in workload["results"]:
            yield (called, workload["scale"], name, each["baseline"], *_numbers(each))


def _numbers(result: Mapping[str, Any]) -> tuple[str, ...]:
    aggregates = result["aggregates"]
    if result["state"] != "measured":
        return (result["state"], *[numbers.NONE] * (len(_SHOWN) - 1))
    return tuple(numbers.significant(aggregates.get(name)) for name in _SHOWN)


_SHOWN = (
    *("latency_ms", "first_token_ms"),
    *("throughput_units_per_s", "total_data_mb", "server_duration_ms"),
)
