"""From trials to what they mean. Pure: the same folder always gives the same analysis."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from remora.lab import cautions
from remora.lab.equal_work import equal_work
from remora.lab.folder import Folder
from remora.lab.results import (
    Analysis,
    Arm,
    Cell,
    Comparison,
    CostRatio,
    EnvironmentPair,
    Failure,
    NoiseFloor,
    Plan,
    Spread,
    Trial,
    TrialSummary,
)
from remora.lab.statistics.describe import outliers, spread
from remora.lab.statistics.effect import cliffs_delta, hedges_g
from remora.lab.statistics.floor import noise_floor
from remora.lab.statistics.judgement import Judgement
from remora.lab.statistics.planning import blocks_to_tell
from remora.lab.statistics.ratios import mean_interval
from remora.lab.statistics.tails import tail
from remora.lab.statistics.verdict import judge_table
from remora.lab.statistics.wording import sentence
from remora.lab.summary import Measured, by_arm, log_ratios, paired

Failures = Mapping[str, Failure]
QUANTILES = (0.5, 0.95, 0.99)
_MIB = 2**20
_COSTS: dict[str, Callable[[Measured], float | None]] = {
    "cpu_ms_per_step": lambda s: s.cpu_ns_per_step / 1e6,
    "peak_rss_mib": lambda s: s.costs.peak_rss_bytes / _MIB,
    "disk_mib": lambda s: s.costs.disk_bytes / _MIB,
    "wire_mib": lambda s: _over(s.costs.wire_bytes, _MIB),
    "sent_bytes_per_step": lambda s: _over(s.costs.wire_sent_bytes, len(s.step_ns)),
    "received_bytes_per_step": lambda s: _over(s.costs.wire_received_bytes, len(s.step_ns)),
    "drain_ms": lambda s: s.costs.drain_ns / 1e6,
    "gpu_utilization": lambda s: s.costs.gpu_utilization,
    "gpu_peak_mib": lambda s: _over(s.costs.gpu_peak_bytes, _MIB),
}
P95 = "p95 step time"
CPU = "CPU time a step"
THROUGHPUT = "throughput"
"""Work a second, the final drain included: its ratio to native is "× no checkpointing"."""
_COMPARED_COSTS: dict[str, Callable[[Measured], float]] = {
    P95: lambda s: float(np.quantile(s.counted_ns, 0.95)),
    THROUGHPUT: lambda s: s.throughput,
    CPU: lambda s: s.cpu_ns_per_step,
    "peak RSS": lambda s: float(s.costs.peak_rss_bytes),
    "start-up": lambda s: float(s.start_up_ns),
}


def analyse_folder(folder: Folder) -> tuple[Analysis, list[Trial]]:
    """The analysis of a results folder and the trials it rests on."""
    trials, warnings = folder.trials()
    planned = {spec.id for spec in folder.plan().trials}
    trials = [trial for trial in trials if trial.spec.id in planned]
    return analyse(folder.plan(), folder.environment(), trials, warnings), trials


def analyse(
    plan: Plan,
    environment: EnvironmentPair,
    trials: Sequence[Trial],
    warnings: Sequence[str] = (),
) -> Analysis:
    """What the trials of ``plan`` mean; ``warnings`` are what reading them already found."""
    arms = by_arm(trials, plan.warm_up)
    failures = _failures(trials, arms)
    tables = [_Table(plan, workload, arms, failures) for workload in _workloads(plan)]
    cells = [_cell(arm, trials, arms.get(arm.name, {})) for arm in plan.arms]
    noise = [table.floor for table in tables if table.floor is not None]
    return Analysis(
        plan=plan,
        environment=environment,
        cells=cells,
        noise=noise,
        comparisons=[each for table in tables for each in table.comparisons()],
        warnings=[*warnings, *cautions.of(plan, environment, trials, cells, noise)],
        complete=cautions.complete(plan, trials),
    )


def _failures(trials: Sequence[Trial], arms: Mapping[str, Mapping[int, Measured]]) -> Failures:
    """Why there is nothing of an arm, for each that ran and never gave samples."""
    found: dict[str, Failure] = {}
    for trial in trials:
        if trial.failure is not None and not arms.get(trial.spec.arm.name):
            found.setdefault(trial.spec.arm.name, trial.failure)
    return found


def _workloads(plan: Plan) -> list[str]:
    return list(dict.fromkeys(arm.workload for arm in plan.arms))


# ---------------------------------------------------------------- one arm


def _cell(arm: Arm, trials: Sequence[Trial], summaries: Mapping[int, Measured]) -> Cell:
    mine = [trial for trial in trials if trial.spec.arm.name == arm.name]
    good = [summaries[block] for block in sorted(summaries)]
    counted = [summary.counted_ns / 1e6 for summary in good]
    return Cell(
        arm=arm,
        trials=[summary.id for summary in good],
        failures={t.spec.id: t.failure for t in mine if t.failure is not None},
        steps=sum(len(steps) for steps in counted),
        unsettled=[summary.id for summary in good if summary.settled_from is None],
        outliers=sum(outliers(steps) for steps in counted),
        warmup_steps=_spread([float(s.settled_from) for s in good if s.settled_from is not None]),
        step_ms=_spread([summary.mean_step_ns / 1e6 for summary in good]),
        throughput=_spread([summary.throughput for summary in good]),
        work_unit=good[0].trial.work_unit if good else "",
        work_count=good[0].trial.work_count if good else 0,
        unit_ms=_spread([ns / 1e6 for summary in good if (ns := summary.unit_ns) is not None]),
        first_unit_ms=_spread([ns / 1e6 for s in good if (ns := s.first_unit_ns) is not None]),
        tails_ms=[tail(counted, quantile) for quantile in QUANTILES] if good else [],
        stall_ms=_spread([ns / 1e6 for summary in good for ns in summary.stall_ns]),
        durable_ms=_spread([ns / 1e6 for summary in good for ns in summary.durable_ns]),
        calls=sum(summary.calls for summary in good),
        calls_due=sum(summary.calls_due for summary in good),
        start_up_ms=_start_up(good),
        costs=_costs(good),
        counts=_counts(good),
        summaries=[_summary(summary) for summary in good],
    )


def _summary(measured: Measured) -> TrialSummary:
    return TrialSummary(
        id=measured.id,
        settled_from=measured.settled_from,
        settled_steps=len(measured.counted_ns),
        mean_ms=measured.mean_step_ns / 1e6,
        outliers=outliers(measured.counted_ns),
    )


def _spread(values: Sequence[float]) -> Spread | None:
    return spread(np.asarray(values, dtype=np.float64)) if values else None


def _start_up(good: Sequence[Measured]) -> dict[str, Spread]:
    phases = ("spawn", "import", "build", "attach", "first_step", "prepare")
    values = {p: [getattr(s.start_up, f"{p}_ns") / 1e6 for s in good] for p in phases}
    if not any(values["prepare"]):
        del values["prepare"]
    return {phase: found for phase, each in values.items() if (found := _spread(each))}


def _counts(good: Sequence[Measured]) -> dict[str, Spread]:
    names = dict.fromkeys(name for summary in good for name in summary.trial.counts)
    counted = {
        name: [s.trial.counts[name] for s in good if name in s.trial.counts] for name in names
    }
    return {name: found for name, each in counted.items() if (found := _spread(each))}


def _costs(good: Sequence[Measured]) -> dict[str, Spread]:
    found = {}
    for name, read in _COSTS.items():
        known = [value for summary in good if (value := read(summary)) is not None]
        if each := _spread(known):
            found[name] = each
    return found


def _over(value: int | None, unit: int) -> float | None:
    return None if value is None else value / unit


# ---------------------------------------------------------------- arms against native


@dataclass(frozen=True)
class _Row:
    """One arm's pairs with native, and why they may not be compared."""

    arm: Arm
    pairs: list[tuple[Measured, Measured]]
    work: str
    comparable: bool


class _Table:
    """The comparisons of one workload, judged together."""

    def __init__(
        self,
        plan: Plan,
        workload: str,
        arms: Mapping[str, Mapping[int, Measured]],
        failures: Failures,
    ) -> None:
        self.plan, self.workload, self.arms, self.failures = plan, workload, arms, failures
        mine = [arm for arm in plan.arms if arm.workload == workload]
        self.native = arms.get(next(a.name for a in mine if a.role == "baseline"), {})
        again = arms.get(next(a.name for a in mine if a.role == "again"), {})
        self.again = log_ratios(paired(again, self.native))
        self.rows = [self._row(arm) for arm in mine if arm.role not in ("baseline", "again")]
        self.floor = self._floor()
        self.blocks_to_tell = self._blocks_to_tell()

    def _row(self, arm: Arm) -> _Row:
        pairs = paired(self.arms.get(arm.name, {}), self.native)
        work = equal_work(pairs, self.plan.tolerance)
        return _Row(arm, pairs, work.words, work.equal)

    def _floor(self) -> NoiseFloor | None:
        floor = noise_floor(self.again, self.plan.level, self.plan.seed)
        if floor is None:
            return None
        return NoiseFloor(
            workload=self.workload, ratio=floor.ratio, interval=floor.interval, floor=floor.floor
        )

    def comparisons(self) -> list[Comparison]:
        judged = judge_table(
            {row.arm.name: log_ratios(row.pairs) for row in self.rows if row.comparable},
            self.again,
            margin=self.plan.margin,
            level=self.plan.level,
            seed=self.plan.seed,
        )
        return [self._comparison(row, judged.get(row.arm.name)) for row in self.rows]

    def _comparison(self, row: _Row, judged: Judgement | None) -> Comparison:
        if failure := self.failures.get(row.arm.name):
            return self._failed(row.arm, failure)
        mine = np.asarray([a.mean_step_ns for a, _ in row.pairs])
        native = np.asarray([b.mean_step_ns for _, b in row.pairs])
        enough = len(row.pairs) > 1
        return Comparison(
            workload=self.workload,
            label=row.arm.label,
            blocks=len(row.pairs),
            ratio=judged.ratio if judged else None,
            interval=judged.interval if judged else None,
            p_value=judged.p_value if judged else None,
            p_holm=judged.p_holm if judged else None,
            cliffs_delta=cliffs_delta(mine, native) if enough else None,
            hedges_g=hedges_g(np.log(mine), np.log(native)) if enough else None,
            verdict=judged.verdict if judged else "void",
            sentence=self._sentence(row, judged),
            equal_work=row.work,
            cost_ratios=self._cost_ratios(row) if row.pairs else [],
        )

    def _failed(self, arm: Arm, failure: Failure) -> Comparison:
        return Comparison(
            workload=self.workload,
            label=arm.label,
            blocks=0,
            ratio=None,
            interval=None,
            p_value=None,
            p_holm=None,
            cliffs_delta=None,
            hedges_g=None,
            verdict="failed",
            sentence=f"failed: {failure.kind}: {failure.message}",
            equal_work="it never ran to its end",
            cost_ratios=[],
        )

    def _sentence(self, row: _Row, judged: Judgement | None) -> str:
        return sentence(judged, self.blocks_to_tell) if judged else f"void: {row.work}"

    def _blocks_to_tell(self) -> int | None:
        """Blocks that would tell a cost of the margin's size, by the noise seen here."""
        plan, arms = self.plan, max(1, len(self.rows))
        return blocks_to_tell(
            plan.margin, self.again, margin=plan.margin, level=plan.level, arms=arms
        )

    def _cost_ratios(self, row: _Row) -> list[CostRatio]:
        found = []
        for quantity, read in _COMPARED_COSTS.items():
            logs = log_ratios(row.pairs, read)
            if len(logs) and (quantity != P95 or _p95_is_valid(row.pairs)):
                interval = mean_interval(logs, self.plan.level, self.plan.seed)
                ratio = float(np.exp(logs.mean()))
                found.append(CostRatio(quantity=quantity, ratio=ratio, interval=interval))
        return found


def _p95_is_valid(pairs: Sequence[tuple[Measured, Measured]]) -> bool:
    """Whether both arms have steps enough to bound their p95 (rule 8)."""
    return all(
        tail([each.counted_ns for each in arm], 0.95).valid for arm in zip(*pairs, strict=True)
    )
