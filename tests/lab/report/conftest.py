"""A results folder's worth of made-up data: every kind of outcome once, names hard to write."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import pytest

from remora.lab.report import Rendered, render
from remora.lab.results import (
    Analysis,
    Arm,
    Cell,
    Comparison,
    CostRatio,
    Costs,
    Environment,
    EnvironmentPair,
    Failure,
    Interval,
    NoiseFloor,
    Pilot,
    Plan,
    Role,
    Samples,
    Spread,
    StartUp,
    Tail,
    Trial,
    TrialSpec,
    TrialSummary,
    Verdict,
)

BLOCKS = 5
STEPS = 60
HOSTILE = "<script>alert('%_&')</script>"
T_975_4 = 2.776


@dataclass(frozen=True)
class Made:
    """What one synthetic arm does: ``factor`` times native, by ``verdict``."""

    label: str
    system: str
    role: Role
    factor: float
    verdict: Verdict | None
    stall_ms: float = 0.0
    fails: bool = False
    settles: bool = True


ARMS: dict[str, tuple[float, tuple[Made, ...]]] = {
    "vgg16-train": (
        412.0,
        (
            Made("native", "native", "baseline", 1.0, None),
            Made("native-again", "native", "again", 1.002, "no cost"),
            Made("idle", "idle", "system", 1.001, "no cost"),
            Made("settrace", "settrace", "system", 8.4, "costs"),
            Made("torch-save", "torch-save", "system", 1.183, "costs", stall_ms=640.0),
            Made("dcp-async", "dcp-async", "system", 1.062, "costs", stall_ms=155.0),
        ),
    ),
    f"gpt2 {HOSTILE}": (
        96.0,
        (
            Made("native", "native", "baseline", 1.0, None),
            Made("native-again", "native", "again", 0.998, "no cost"),
            Made("idle", "idle", "system", 1.024, "undecided"),
            Made("dispatch-mode", "dispatch-mode", "system", 1.9, "void", settles=False),
            Made("torch-save_every-10 & fsync at 100 %", "torch-save", "system", 1.3, "costs",
                 stall_ms=480.0),
            Made("dcp-async", "dcp-async", "system", 1.1, None, fails=True),
        ),
    ),
}  # fmt: skip


def _spread(values: Sequence[float]) -> Spread:
    array = np.asarray(values, dtype=float)
    std = round(float(array.std(ddof=1)), 6) if len(array) > 1 else None
    mean, median, low, high = (
        round(float(v), 6) for v in (array.mean(), np.median(array), array.min(), array.max())
    )
    return Spread(count=len(array), mean=mean, median=median, std=std, min=low, max=high)


def _steps(made: Made, base_ms: float, rng: np.random.Generator) -> list[int]:
    level = base_ms * made.factor * float(rng.normal(1, 0.006))
    times = level * rng.lognormal(0, 0.012, STEPS)
    times[:8] *= 1 + 0.9 * np.exp(-np.arange(8) / 2)
    times[rng.integers(20, STEPS)] *= 1.6
    if made.stall_ms:
        times[9::10] += made.stall_ms
    if not made.settles:
        times *= 1 + 0.008 * np.arange(STEPS)
    return [round(value * 1e6) for value in times]


def _trial(spec: TrialSpec, made: Made, base_ms: float, rng: np.random.Generator) -> Trial:
    common: dict[str, Any] = {
        "spec": spec,
        "started": f"2031-03-02T10:{spec.block * 6 + spec.position:02d}:00Z",
        "load_before": round(float(rng.uniform(0.2, 0.7)), 2),
        "steal_share": 0.0,
    }
    if made.fails:
        failure = Failure(kind="out-of-memory", message="killed at 3.9 GiB <of> 4.0 GiB & gone",
                          log=f"logs/{spec.id}.log")  # fmt: skip
        return Trial(**common, failure=failure)
    steps = _steps(made, base_ms, rng)
    stalls = [round(made.stall_ms * 1e6 * float(rng.lognormal(0, 0.15))) for _ in range(6)]
    return Trial(
        **common,
        period=10 if made.stall_ms else 1,
        work_count=8,
        work_unit="images",
        samples=Samples(
            step_ns=steps,
            step_cpu_ns=[round(step * 1.9) for step in steps],
            values=[round(7.0 - 0.01 * i, 4) for i in range(STEPS)],
            digests=[],
            stall_ns=stalls if made.stall_ms else [],
        ),
        start_up=StartUp(spawn_ns=41_000_000, import_ns=1_830_000_000, build_ns=902_000_000,
                         attach_ns=round(3e5 * made.factor), first_step_ns=steps[0]),
        costs=Costs(drain_ns=12_000_000, cpu_ns=round(sum(steps) * 1.9),
                    peak_rss_bytes=1_812_000_000, disk_bytes=3_321_888_768 if made.stall_ms else 0,
                    wire_bytes=0),
    )  # fmt: skip


def _summary(trial: Trial, made: Made) -> TrialSummary:
    assert trial.samples is not None
    start = 8 if made.settles else None
    settled = np.asarray(trial.samples.step_ns[8:] if made.settles else trial.samples.step_ns)
    return TrialSummary(id=trial.spec.id, settled_from=start, settled_steps=len(settled),
                        mean_ms=round(float(settled.mean()) / 1e6, 6), outliers=2)  # fmt: skip


def _tails(made: Made, level_ms: float) -> list[Tail]:
    def tail(quantile: float, factor: float) -> Tail:
        value = round(level_ms * factor, 6)
        return Tail(quantile=quantile, value=value, low=round(value * 0.98, 6),
                    high=round(value * 1.05, 6), valid=True, reason="")  # fmt: skip

    few = Tail(quantile=0.99, value=None, low=None, high=None, valid=False,
               reason="260 steps, and a p99 with bounds needs 473")  # fmt: skip
    return [tail(0.5, 0.99), tail(0.95, 1.04), few if made.system == "idle" else tail(0.99, 1.4)]


def _cell(arm: Arm, made: Made, trials: Sequence[Trial]) -> Cell:
    good = [trial for trial in trials if trial.samples is not None]
    summaries = [_summary(trial, made) for trial in good]
    means = [s.mean_ms for s in summaries if s.mean_ms is not None]
    stalls = [ns / 1e6 for t in good if t.samples for ns in t.samples.stall_ns]
    start_up = {
        name: _spread([getattr(t.start_up, f"{name}_ns") / 1e6 for t in good])
        for name in ("spawn", "import", "build", "attach", "first_step")
        if good
    }
    costs = {
        "cpu_ms_per_step": [mean * 1.9 for mean in means],
        "peak_rss_mib": [1728.06 + i for i in range(len(good))],
        "disk_mib": [3168.0 if made.stall_ms else 0.0] * len(good),
        "drain_ms": [12.0] * len(good),
    }
    return Cell(
        arm=arm,
        trials=[trial.spec.id for trial in trials],
        failures={t.spec.id: t.failure for t in trials if t.failure is not None},
        steps=sum(s.settled_steps for s in summaries),
        unsettled=[] if made.settles else [trial.spec.id for trial in good],
        outliers=sum(s.outliers for s in summaries),
        warmup_steps=_spread([8.0] * len(good)) if good and made.settles else None,
        step_ms=_spread(means) if means else None,
        throughput=_spread([8000 / mean for mean in means]) if means else None,
        work_unit="images" if good else "",
        tails_ms=_tails(made, means[0]) if means else [],
        stall_ms=_spread(stalls) if stalls else None,
        start_up_ms=start_up,
        costs={name: _spread(values) for name, values in costs.items() if values},
        summaries=summaries,
    )


def _comparison(arm: Arm, made: Made, cells: dict[str, Cell]) -> Comparison | None:
    if made.role == "baseline":
        return None
    if made.fails or made.verdict is None:
        return None
    native = [s.mean_ms for s in cells["native"].summaries]
    own = [s.mean_ms for s in cells[arm.label].summaries]
    logs = [math.log(a / b) for a, b in zip(own, native, strict=True) if a and b]
    mean = sum(logs) / len(logs)
    half = T_975_4 * float(np.std(logs, ddof=1)) / math.sqrt(len(logs))
    ratio = round(math.exp(mean), 6)
    interval = Interval(low=round(math.exp(mean - half), 6), high=round(math.exp(mean + half), 6),
                        level=0.95, method="t on within-block log ratios")  # fmt: skip
    void = made.verdict == "void"
    sentence = {
        "no cost": f"no cost within ±5 %: {(ratio - 1) * 100:.1f} %",
        "costs": f"costs {(ratio - 1) * 100:.1f} %",
        "undecided": "undecided: 12 blocks would tell a cost of 5 %",
        "void": "void: its work differed from native’s",
    }[made.verdict]
    p = 0.31 if made.verdict in ("no cost", "undecided") else 0.00012
    return Comparison(
        workload=arm.workload, label=arm.label, blocks=len(logs), ratio=ratio, interval=interval,
        p_value=p, p_holm=min(1.0, p * 4), cliffs_delta=0.2 if p > 0.1 else 1.0,
        hedges_g=round(min((ratio - 1) * 40, 210), 4), verdict=made.verdict, sentence=sentence,
        equal_work="largest difference 0.3, allowed 0.001" if void else "within 0.001",
        cost_ratios=[
            CostRatio(quantity="cpu_ms_per_step", ratio=ratio, interval=interval),
            CostRatio(quantity="peak_rss_mib", ratio=1.013, interval=None),
        ],
    )  # fmt: skip


def _environment(taken: str, load: float, governor: str) -> Environment:
    return Environment(
        taken=taken,
        machine={"cpu": "Example EPYC 9654 96-Core Processor", "cores": 2, "governor": governor,
                 "memory_gib": 15.6, "kernel": "6.1.0-18-amd64", "affinity": "0,1"},
        load={"load_1m": load, "steal_share": 0.0, "free_memory_gib": 11.2},
        versions={"python": "3.11.9", "torch": "2.13.0", "numpy": "2.4.6", "ray": None},
        threads={"torch": 2, "OMP_NUM_THREADS": "2", "MKL_NUM_THREADS": None},
        device={"name": "cpu"},
        git={"commit": "0123456789abcdef0123456789abcdef01234567", "dirty": False},
    )  # fmt: skip


def _plan() -> Plan:
    arms = [Arm(workload=workload, system=made.system, label=made.label, role=made.role)
            for workload, (_, group) in ARMS.items() for made in group]  # fmt: skip
    rng = np.random.default_rng(7)
    specs = []
    for block in range(BLOCKS):
        for position, index in enumerate(rng.permutation(len(arms))):
            specs.append(
                TrialSpec(
                    id=f"b{block:02d}-a{int(index):02d}",
                    block=block,
                    position=position,
                    arm=arms[int(index)],
                    scale="quick",
                    device="cpu",
                    seed=1000 + block,
                    threads=2,
                    seconds=4.0,
                    min_steps=20,
                    max_steps=STEPS,
                    timeout_s=120.0,
                )
            )
    return Plan(
        experiment="quick",
        title="What does it cost to watch and to checkpoint?",
        question="How much slower does a training step become when a service rides along, and how "
        "long does a checkpoint hold the job up?",
        scale="quick", device="cpu", created="2031-03-02T09:58:12Z", seed=1, threads=2,
        executor="forkserver", margin=0.05, tolerance=0.001, budget_s=300.0, arms=arms,
        blocks=BLOCKS,
        settings={made.label: {"every": 10, "fsync": True} if made.stall_ms else {}
                  for _, group in ARMS.values() for made in group},
        sizes={"vgg16-train": {"batch": 8, "image": "3×64×64", "parameters": 138_357_544},
               list(ARMS)[1]: {"batch": 2, "tokens": 128, "parameters": 124_439_808}},
        sources={"vgg16-train": "Simonyan & Zisserman 2015, table 1, column D",
                 list(ARMS)[1]: "Radford et al. 2019, table 2, row 1"},
        trials=specs,
        pilot=Pilot(blocks=2, sd_log_ratio=0.0094, mde=0.021, power=0.8, wanted_mde=0.01,
                    blocks_for_wanted=16),
    )  # fmt: skip


def made_results() -> tuple[Analysis, list[Trial]]:
    """The analysis and its trials; the same at every call."""
    plan = _plan()
    made = {f"{w}/{m.label}": (m, base) for w, (base, group) in ARMS.items() for m in group}
    rng = np.random.default_rng(11)
    trials = [_trial(spec, *made[spec.arm.name], rng) for spec in plan.trials]
    cells: list[Cell] = []
    comparisons: list[Comparison] = []
    for workload in ARMS:
        own = [arm for arm in plan.arms if arm.workload == workload]
        group = {
            arm.label: _cell(arm, made[arm.name][0], [t for t in trials if t.spec.arm == arm])
            for arm in own
        }
        cells += group.values()
        found = (_comparison(arm, made[arm.name][0], group) for arm in own)
        comparisons += [comparison for comparison in found if comparison is not None]
    analysis = Analysis(
        plan=plan,
        environment=EnvironmentPair(
            before=_environment("2031-03-02T09:58:12Z", 0.31, "performance"),
            after=_environment("2031-03-02T10:31:40Z", 1.92, "powersave"),
        ),
        cells=cells,
        noise=[
            NoiseFloor(workload=w, ratio=r, floor=f,
                       interval=Interval(low=r - f, high=r + f, level=0.95, method="t"))
            for w, r, f in zip(ARMS, (1.002, 0.998), (0.011, 0.019), strict=True)
        ],
        comparisons=comparisons,
        warnings=["The governor changed from performance to powersave while trials ran.",
                  f"{list(ARMS)[1]}/dcp-async failed in all 5 blocks."],
        complete=True,
    )  # fmt: skip
    return analysis, trials


@pytest.fixture(scope="session")
def results() -> tuple[Analysis, list[Trial]]:
    """Two workloads, six arms each, five blocks: costs, none, undecided, void, failed, INVALID."""
    return made_results()


@pytest.fixture(scope="session")
def begun() -> tuple[Analysis, list[Trial]]:
    """A run that was killed before any trial had ended."""
    analysis, _ = made_results()
    environment = msgspec.structs.replace(analysis.environment, after=None)
    bare = msgspec.structs.replace(analysis, environment=environment, cells=[], noise=[],
                                   comparisons=[], warnings=[], complete=False)  # fmt: skip
    return bare, []


@pytest.fixture(scope="session")
def native_only() -> tuple[Analysis, list[Trial]]:
    """A run of nothing but native, so nothing is compared."""
    analysis, trials = made_results()
    arms = [arm for arm in analysis.plan.arms if arm.role == "baseline"]
    plan = msgspec.structs.replace(analysis.plan, arms=arms, pilot=None)
    cells = [cell for cell in analysis.cells if cell.arm in arms]
    alone = msgspec.structs.replace(analysis, plan=plan, cells=cells, noise=[], comparisons=[],
                                    warnings=[])  # fmt: skip
    return alone, [trial for trial in trials if trial.spec.arm in arms]


@pytest.fixture(scope="session")
def all_failed() -> tuple[Analysis, list[Trial]]:
    """A run in which every trial failed."""
    analysis, trials = made_results()
    failure = Failure(kind="raised", message="RuntimeError: no", log="logs/x.log")
    failed = [msgspec.structs.replace(trial, samples=None, start_up=None, costs=None,
                                      failure=failure) for trial in trials]  # fmt: skip
    cells = [
        msgspec.structs.replace(
            cell, failures=dict.fromkeys(cell.trials, failure), steps=0, unsettled=[], outliers=0,
            warmup_steps=None, step_ms=None, throughput=None, tails_ms=[], stall_ms=None,
            start_up_ms={}, costs={}, summaries=[],
        )
        for cell in analysis.cells
    ]  # fmt: skip
    none = msgspec.structs.replace(analysis, cells=cells, noise=[], comparisons=[])
    return none, failed


@pytest.fixture(scope="session")
def rendered(
    results: tuple[Analysis, list[Trial]], tmp_path_factory: pytest.TempPathFactory
) -> Rendered:
    """The report of ``results``, rendered once."""
    return render(tmp_path_factory.mktemp("quick run"), *results)
