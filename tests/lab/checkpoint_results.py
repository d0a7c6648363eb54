"""Made-up results of a checkpoint experiment, whose every ratio is known by arithmetic."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import msgspec
from tests.lab.builders import make_spec

from remora.lab.design import Chosen
from remora.lab.results import Costs, Curve, Option, Plan, Samples, StartUp, Trial, TrialSpec
from remora.lab.schedule import arms_of, schedule

MS = 1_000_000
STEP_MS = 250.0
BLOCKS = 4

THROUGHPUT = Curve(
    name="throughput", title="Throughput", over="every", axis="steps", quantity="throughput"
)
SLOWDOWN = msgspec.structs.replace(THROUGHPUT, name="slow", quantity="slowdown")
IN_FLIGHT = msgspec.structs.replace(
    THROUGHPUT, name="flight", over="in_flight", quantity="slowdown"
)
SIZE = msgspec.structs.replace(THROUGHPUT, name="size", over="state_mb", quantity="durable_ms")


@dataclass
class Made:
    """What a system does to a job: so many ms of stall a checkpoint, the last durable so late."""

    stall_ms: float
    durable_ms: float = 300.0
    skips: bool = False
    options: list[dict[str, Option]] = field(default_factory=list)


SYSTEMS = {
    "torch-save": Made(500.0, options=[{"every": every} for every in (1, 5, 10)]),
    "dcp-async": Made(100.0, options=[{"every": every} for every in (1, 5, 10)]),
    "remora-checkpoint": Made(
        2.0,
        options=[{"every": e, "in_flight": n} for e in (1, 5, 10) for n in (1, 2)],
        skips=True,
    ),
}
WORKLOADS = {"small": 10, "large": 1000}


def checkpoint_trial(spec: TrialSpec) -> Trial:
    made = SYSTEMS.get(spec.arm.system, Made(0.0))
    every = spec.arm.options.get("every")
    period = every if isinstance(every, int) else 1
    rng = random.Random(spec.id)
    level = STEP_MS * rng.lognormvariate(0, 0.002)
    steps = 40
    stall = made.stall_ms if spec.arm.system != "native" else 0.0
    first_ms = 5000.0  # the first checkpoint makes ready: not what a job in its stride sees
    step_ms = [
        level + (stall if (i + 1) % period == 0 else 0) + (first_ms if i + 1 == period else 0)
        for i in range(steps)
    ]
    calls = 0 if not stall else steps // period - (1 if made.skips and period == 1 else 0)
    size = WORKLOADS[spec.arm.workload]
    return Trial(
        spec=spec,
        started="2031-01-01T00:00:00+00:00",
        period=period,
        work_count=1,
        work_unit="steps",
        samples=Samples(
            step_ns=[round(ms * MS) for ms in step_ms],
            step_cpu_ns=[MS] * steps,
            values=[1.0] * steps,
            digests=["0" * 16] * 8,
            stall_ns=[round(stall * MS)] * calls,
            durable_ns=[round((made.durable_ms + size + i % 3) * MS) for i in range(calls)],
        ),
        start_up=StartUp(spawn_ns=MS, import_ns=MS, build_ns=MS, attach_ns=MS, first_step_ns=MS),
        costs=Costs(
            drain_ns=round(made.durable_ms * MS) if stall else 0,
            cpu_ns=steps * MS,
            peak_rss_bytes=2**28,
            disk_bytes=0,
            wire_bytes=0,
        ),
    )


def checkpoint_plan() -> Plan:
    chosen = [Chosen(name, options) for name, made in SYSTEMS.items() for options in made.options]
    arms = [arm for workload in WORKLOADS for arm in arms_of(workload, chosen, ())]
    return Plan(
        experiment="checkpoint-throughput",
        title="Curves",
        question="Are they right?",
        scale="quick",
        device="cpu",
        created="2031-01-01T00:00:00+00:00",
        seed=0,
        threads=1,
        executor="spawn",
        margin=0.02,
        tolerance=1e-4,
        arms=arms,
        blocks=BLOCKS,
        warm_up="first period",
        curves=[THROUGHPUT, SLOWDOWN, IN_FLIGHT, SIZE],
        settings={arm.label: {**arm.options, "threads": 1} for arm in arms},
        sizes={name: {"state_mb": size} for name, size in WORKLOADS.items()},
        sources=dict.fromkeys(WORKLOADS, "made up"),
        trials=schedule(arms, range(BLOCKS), 0, make_spec(arms[0])),
    )
