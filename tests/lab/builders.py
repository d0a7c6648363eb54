"""Plans, trials and an executor that only pretends, for tests of order, budget and recovery."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from remora.core.clock import ManualClock
from remora.core.files import write_atomically
from remora.lab.conduct import Conductor
from remora.lab.design import Chosen
from remora.lab.executors.contract import Ended, Executor
from remora.lab.folder import Folder
from remora.lab.planning import Replanner
from remora.lab.results import Arm, Costs, Plan, Samples, StartUp, Trial, TrialSpec
from remora.lab.schedule import arms_of, schedule
from remora.lab.trial_runner import TrialRunner
from remora.lab.worker import Job, failed

MS = 1_000_000


def make_spec(arm: Arm, **changes: object) -> TrialSpec:
    values: dict[str, object] = {
        "id": "",
        "block": 0,
        "position": 0,
        "arm": arm,
        "scale": "quick",
        "device": "cpu",
        "seed": 0,
        "threads": 1,
        "seconds": 1.0,
        "min_steps": 8,
        "max_steps": 100,
        "timeout_s": 60.0,
    }
    return msgspec.convert(values | changes, TrialSpec)


def make_plan(
    systems: Sequence[str] = ("torch-save",),
    workloads: Sequence[str] = ("vgg16-train",),
    blocks: int = 3,
    **changes: object,
) -> Plan:
    arms = [arm for w in workloads for arm in arms_of(w, [Chosen(s) for s in systems], ())]
    plan = Plan(
        experiment="quick",
        title="A test",
        question="Does it work?",
        scale="quick",
        device="cpu",
        created="2026-01-01T00:00:00+00:00",
        seed=0,
        threads=1,
        executor="in-process",
        margin=0.05,
        tolerance=1e-4,
        arms=arms,
        blocks=blocks,
        settings={arm.label: {} for arm in arms},
        sizes={w: {"batch": 1} for w in workloads},
        sources=dict.fromkeys(workloads, "a test"),
        trials=schedule(arms, range(blocks), 0, make_spec(arms[0])),
    )
    return msgspec.structs.replace(plan, **changes)


def make_trial(
    spec: TrialSpec, step_ms: float = 50.0, steps: int = 40, noise: float = 0.02
) -> Trial:
    """A trial whose steps scatter around ``step_ms``, by a process effect and within."""
    rng = random.Random(spec.id)
    level = step_ms * rng.lognormvariate(0, noise)
    step_ns = [round(level * rng.lognormvariate(0, 0.01) * MS) for _ in range(steps)]
    return Trial(
        spec=spec,
        started="2026-01-01T00:00:00+00:00",
        period=1,
        work_count=8,
        work_unit="images",
        samples=Samples(
            step_ns=step_ns,
            step_cpu_ns=step_ns,
            values=[1.0 / (i + 1) for i in range(steps)],
            digests=[f"{i:016x}" for i in range(8)],
            stall_ns=[],
        ),
        start_up=StartUp(
            spawn_ns=5 * MS, import_ns=MS, build_ns=90 * MS, attach_ns=MS, first_step_ns=step_ns[0]
        ),
        costs=Costs(
            drain_ns=0,
            cpu_ns=sum(step_ns),
            peak_rss_bytes=300 * 2**20,
            disk_bytes=0,
            wire_bytes=0,
        ),
    )


Behaviour = Callable[[Job], Ended | Trial]


def succeeding(job: Job) -> Trial:
    return make_trial(job.spec)


@dataclass
class FakeExecutor(Executor):
    """Keeps a log of what it was asked to run and answers at once, moving the clock instead."""

    name = "fake"
    clock: ManualClock
    seconds: float = 2.0
    behaviours: dict[str, Behaviour] = field(default_factory=dict)
    log: list[str] = field(default_factory=list)
    timeouts: list[float] = field(default_factory=list)

    def run(self, job: Job, timeout_s: float) -> Ended:
        self.log.append(job.spec.id)
        self.timeouts.append(timeout_s)
        self.clock.advance(round(self.seconds * 1e9))
        answer = self.behaviours.get(job.spec.arm.label, succeeding)(job)
        if isinstance(answer, Ended):
            return answer
        write_atomically(Path(job.result), msgspec.json.encode(answer))
        return Ended(0 if answer.failure is None else 1)


def raising(job: Job) -> Trial:
    return failed(job.spec, "raised", "ValueError: no", job.log_name)


@dataclass
class Rig:
    """A folder with a plan, a fake executor, and a conductor over them."""

    path: Path
    plan: Plan
    executor: FakeExecutor
    events: list[object] = field(default_factory=list)

    @property
    def folder(self) -> Folder:
        return Folder.open(self.path)

    def conductor(self, **changes: object) -> Conductor:
        unavailable = changes.pop("unavailable", {})
        assert isinstance(unavailable, dict)
        return Conductor(
            self.folder,
            TrialRunner(self.folder, self.executor, unavailable),
            self.events.append,
            self.executor.clock,
            Replanner() if changes.pop("replan", False) else None,
        )
