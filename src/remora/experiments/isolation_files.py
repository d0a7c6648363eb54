"""The files that Tally's benchmark writes, with more in them: ``result.json`` and two CSVs.

Theirs has ``{backend: {pair: {measurements: [{<job>_<i>: {time_elapsed, iters, latencies,
priority}, metrics: {gpu_util, gmem_util, gmem}, error}]}}}``. A backend here is an executor and a
policy; what is not known is null, never 0. ``latencies`` are of service there, and so here;
``responses`` are from arrival. All are in milliseconds.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from remora.experiments.isolation_results import Row, Value, rows
from remora.experiments.isolation_rows import SYSTEM, executor_of, load_of, policy_of, trains_of
from remora.experiments.isolation_trials import QUANTILES, Served
from remora.lab.results import Analysis, Tail, Trial

HIGH, LOW = 1, 2
"""Priorities as they are written there."""
_MEASURES = ("response", "service")


def files(analysis: Analysis, trials: Sequence[Trial]) -> dict[str, str]:
    """All three, by name."""
    found = rows(analysis, trials)
    return {
        "result.json": result_json(trials),
        "single-job-perf.csv": _csv([_single(row) for row in found if row.is_alone]),
        "priority-aware-perf.csv": _csv([_pair(row) for row in found if not row.is_alone]),
    }


def result_json(trials: Sequence[Trial]) -> str:
    """Every trial, failed ones with their error."""
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for trial in trials:
        arm = trial.spec.arm
        if arm.system != SYSTEM:
            continue
        backend = f"{executor_of(arm)}/{policy_of(arm)}"
        pair = "_".join(filter(None, (arm.workload, trains_of(arm))))
        at = found.setdefault(backend, {}).setdefault(
            f"{pair}@{load_of(arm):g}",
            {
                "executor": executor_of(arm),
                "policy": policy_of(arm),
                "load": load_of(arm),
                "measurements": [],
            },
        )
        at["measurements"].append(_measurement(trial))
    return msgspec.json.format(msgspec.json.encode(found), indent=1).decode() + "\n"


def _measurement(trial: Trial) -> dict[str, Any]:
    arm, served = trial.spec.arm, Served.of(trial)
    jobs: dict[str, Any] = {}
    if served is not None:
        jobs[f"{arm.workload}_0"] = _serving(served)
        if trains_of(arm):
            jobs[f"{trains_of(arm)}_1"] = _training(served)
    costs, failure = trial.costs, trial.failure
    return {
        **jobs,
        "metrics": {
            "gpu_util": costs.gpu_utilization if costs else None,
            "gmem_util": None,
            "gmem": costs.gpu_peak_bytes if costs else None,
            "cores_busy": trial.counts.get("cores_busy"),
        },
        "error": None if failure is None else f"{failure.kind}: {failure.message}",
        "trial": trial.spec.id,
        "block": trial.spec.block,
        "label": arm.label,
        "unstable": served.is_unstable if served else None,
    }


def _serving(served: Served) -> dict[str, Any]:
    return {
        "time_elapsed": served.duration_s,
        "iters": len(served.samples.step_ns),
        "latencies": [ns / 1e6 for ns in served.samples.step_ns],
        "responses": [float(ms) for ms in served.response_ms],
        "priority": HIGH,
    }


def _training(served: Served) -> dict[str, Any]:
    rate = served.count("best_effort_steps_per_s")
    return {
        "time_elapsed": served.duration_s,
        "iters": None if rate is None else rate * served.duration_s,
        "latencies": [],
        "priority": LOW,
        "iters_per_s": rate,
        "iters_per_s_alone": served.count("best_effort_steps_per_s_alone"),
    }


# ---------------------------------------------------------------- tables

Record = dict[str, str | float | int | None]


def _single(row: Row) -> Record:
    return {"job": row.serves, "load": row.load, "executor": row.executor, **_latencies(row)}


def _pair(row: Row) -> Record:
    return {
        "high_priority_job": row.serves,
        "best_effort_job": row.trains,
        "backend": f"{row.executor}/{row.policy}",
        "executor": row.executor,
        "policy": row.policy,
        "load": row.load,
        **_latencies(row),
        **_ratios(row),
        "high_priority_normalised_throughput": row.serving.mean,
        **_bounds("best_effort_normalised_throughput", row.training),
        **_bounds("best_effort_of_what_is_left", row.training_of_left),
        "system_throughput": row.system,
        "goodput_per_s": row.goodput_per_s.mean,
        "goodput_bound_ms": row.bound_ms,
        "in_time": row.in_time,
        "most_backlog": row.most_backlog if row.trials else None,
        "unstable_trials": row.unstable_trials if row.trials else None,
        "cores_busy": row.cores_busy,
        "serving_rss_mib": row.serving_rss_mib,
        "best_effort_rss_mib": row.training_rss_mib,
    }


def _latencies(row: Row) -> Record:
    record: Record = {
        "state": str(row.verdict) if row.trials else "failed",
        "error": None if row.failure is None else f"{row.failure.kind}: {row.failure.message}",
        "trials": row.trials,
        "requests": row.requests,
    }
    for name in _MEASURES:
        tails: Sequence[Tail] = getattr(row, f"{name}_ms")
        for place, quantile in enumerate(QUANTILES):
            found = tails[place] if tails else None
            column = f"{name}_p{100 * quantile:g}_ms"
            record[column] = found.value if found else None
            record[f"{column}_low"] = found.low if found else None
            record[f"{column}_high"] = found.high if found else None
    return record


def _ratios(row: Row) -> Record:
    record: Record = {}
    for name in _MEASURES:
        values: Sequence[Value] = getattr(row, f"{name}_ratio")
        for place, quantile in enumerate(QUANTILES):
            value = values[place] if values else Value(None)
            record |= _bounds(f"{name}_p{100 * quantile:g}_over_alone", value)
    return record


def _bounds(name: str, value: Value) -> Record:
    return {name: value.mean, f"{name}_low": value.low, f"{name}_high": value.high}


def _csv(records: Sequence[Mapping[str, Any]]) -> str:
    text = io.StringIO()
    if records:
        writer = csv.DictWriter(text, fieldnames=list(records[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(_known(each) for each in records)
    return text.getvalue()


def _known(record: Mapping[str, Any]) -> dict[str, Any]:
    return {name: "" if value is None else value for name, value in record.items()}
