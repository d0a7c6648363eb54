"""What the lab costs: a trial's process until its first step, and a thousand trials on disk."""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from benchmarks.page import table
from remora.experiments import registry
from remora.lab import executors
from remora.lab.analysis import analyse
from remora.lab.design import Request
from remora.lab.environment import capture
from remora.lab.executors import Executor
from remora.lab.folder import Folder
from remora.lab.planning import make_plan, preload_modules, with_blocks
from remora.lab.results import EnvironmentPair, Plan, StartUp, Trial, TrialSpec
from remora.lab.worker import Job

TRIALS = 1000
STEPS = 100
LOAD_TARGET_MS = 1000.0
_PHASES = ("spawn", "import", "build", "attach", "first_step")


@dataclass(frozen=True)
class Start:
    """Median milliseconds of each phase of a trial's start, over ``trials`` trials."""

    executor: str
    workload: str
    trials: int
    phases_ms: dict[str, float]

    @property
    def total_ms(self) -> float:
        return sum(self.phases_ms.values())


@dataclass(frozen=True)
class Storage:
    """A thousand trials of a hundred steps, written one by one and read back at once."""

    megabytes: float
    write_ms_per_trial: float
    """Synced to disk, as the conductor writes them."""
    load_ms: float
    analyse_ms: float


def measure_starts(trials: int = 5) -> list[Start]:
    """Start-up by executor and workload; executors interleave."""
    plan = make_plan(registry.get("quick"), Request(systems=("native",), blocks=1))
    specs = [spec for spec in plan.trials if spec.arm.role == "baseline"]
    made = {
        name: executors.create(name, threads=1, preload=preload_modules(plan))
        for name in ("spawn", "forkserver")
    }
    seen: dict[tuple[str, str], list[StartUp]] = {}
    for _ in range(trials):
        for name, executor in made.items():
            for spec in specs:
                seen.setdefault((name, spec.arm.workload), []).append(_start(executor, spec))
    return [
        Start(name, workload, len(starts), {p: _median_ms(starts, p) for p in _PHASES})
        for (name, workload), starts in seen.items()
    ]


def _median_ms(starts: Sequence[StartUp], phase: str) -> float:
    return statistics.median([float(getattr(start, f"{phase}_ns")) / 1e6 for start in starts])


def _start(executor: Executor, spec: TrialSpec) -> StartUp:
    short = msgspec.structs.replace(spec, id="start", seconds=0.01, min_steps=1, max_steps=1)
    with tempfile.TemporaryDirectory() as name:
        result = Path(name) / "result.json"
        job = Job(
            spec=short,
            result=str(result),
            log=os.devnull,
            log_name="",
            scratch=name,
            asked_ns=time.perf_counter_ns(),
        )
        executor.run(job, timeout_s=120)
        start = msgspec.json.decode(result.read_bytes(), type=Trial).start_up
    if start is None:
        raise RuntimeError(f"the trial of {spec.arm.name} failed")
    return start


def measure_storage() -> Storage:
    """Write, load and analyse :data:`TRIALS` trials made from one real trial."""
    plan = make_plan(registry.get("quick"), Request(blocks=1))
    plan = with_blocks(plan, -(-TRIALS // len(plan.arms)))
    real = _real_trial(plan)
    trials = [msgspec.structs.replace(real, spec=spec) for spec in plan.trials[:TRIALS]]
    with tempfile.TemporaryDirectory(dir=".") as name:
        folder = Folder.create(Path(name) / "results", plan)
        write_ms = _milliseconds(lambda: _write(folder, trials))
        size = sum(path.stat().st_size for path in folder.trials_path.iterdir())
        load_ms = min(_milliseconds(folder.trials) for _ in range(3))
        environment = EnvironmentPair(before=capture(threads=1))
        analyse_ms = _milliseconds(lambda: analyse(plan, environment, trials))
    return Storage(size / 1e6, write_ms / TRIALS, load_ms, analyse_ms)


def _real_trial(plan: Plan) -> Trial:
    """A trial of :data:`STEPS` steps: samples that did happen, repeated to that number."""
    spec = next(spec for spec in plan.trials if spec.arm.role == "baseline")
    executor = executors.create("spawn", threads=1)
    with tempfile.TemporaryDirectory() as name:
        short = msgspec.structs.replace(spec, seconds=0.01, min_steps=10, max_steps=10)
        result = Path(name) / "result.json"
        job = Job(short, str(result), os.devnull, "", name, time.perf_counter_ns())
        executor.run(job, timeout_s=120)
        trial = msgspec.json.decode(result.read_bytes(), type=Trial)
    if trial.samples is None:
        raise RuntimeError(f"the trial of {spec.arm.name} failed")
    times = STEPS // len(trial.samples.step_ns)
    longer = msgspec.structs.replace(
        trial.samples,
        step_ns=trial.samples.step_ns * times,
        step_cpu_ns=trial.samples.step_cpu_ns * times,
        values=trial.samples.values * times,
    )
    return msgspec.structs.replace(trial, samples=longer)


def _write(folder: Folder, trials: Sequence[Trial]) -> None:
    for trial in trials:
        folder.write_trial(trial)


def _milliseconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return (time.perf_counter() - began) * 1e3


def section() -> str:
    """Both tables, for the page."""
    starts, storage = measure_starts(), measure_storage()
    columns = ["executor", "workload", *(f"{p.replace('_', ' ')}, ms" for p in _PHASES), "sum, ms"]
    rows = [
        [s.executor, s.workload, *(f"{s.phases_ms[p]:,.1f}" for p in _PHASES), f"{s.total_ms:,.0f}"]
        for s in starts
    ]
    stored = [
        [
            f"{TRIALS:,} × {STEPS} steps",
            f"{storage.megabytes:.1f}",
            f"{storage.write_ms_per_trial:.2f}",
            f"{storage.load_ms:.0f} (target < {LOAD_TARGET_MS:.0f})",
            f"{storage.analyse_ms:.0f}",
        ]
    ]
    return "\n\n".join(
        (
            f"From asking for a process to the end of its first step; medians of "
            f"{starts[0].trials} trials at quick scale.",
            table(columns, rows, left=2),
            "A results folder: size, a synced write, and reading everything back.",
            table(["trials", "MB", "write, ms a trial", "load all, ms", "analyse all, ms"], stored),
        )
    )
