"""What an experiment leaves behind: pure data, versioned, written and read through msgspec.

A results folder holds

    plan.json              what was to be run (:class:`Plan`), before the first trial
    environment.json       the machine before and after (:class:`EnvironmentPair`)
    trials/<id>.json       one file per trial (:class:`Trial`), raw samples included
    logs/<id>.log          what the trial's process printed
    prepared/<workload>/   what systems made once for all trials of a workload
    report/                rendered from the above, and from nothing else
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

RESULTS_VERSION = 1

Option = int | float | str | bool
Role = Literal["baseline", "again", "injected", "system"]
FailureKind = Literal["raised", "killed", "out-of-memory", "timed-out", "unavailable", "too-large"]
Verdict = Literal["no cost", "costs", "gains", "undecided", "void", "failed"]
WarmUp = Literal["found", "first period"]
Quantity = Literal["throughput", "slowdown", "durable_ms"]


class Data(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The base of everything stored: frozen, unknown keys refused."""


# ---------------------------------------------------------------- what is to be run


class Arm(Data, frozen=True, kw_only=True):
    """A workload under a system. ``label`` is unique within the workload."""

    workload: str
    system: str
    label: str
    role: Role
    options: dict[str, Option] = {}
    inject: float = 0.0
    """Extra time added to every step as a share of the step: the known effect."""
    scale: str = ""
    """Whose sizes the workload has, where they are not those of the plan's scale."""
    most_steps: int | None = None
    """Most steps of a trial, where one takes so long that the plan's number would not end."""

    @property
    def name(self) -> str:
        return f"{self.workload}/{self.label}"


class TrialSpec(Data, frozen=True, kw_only=True):
    """Everything a fresh process needs to run one trial."""

    id: str
    block: int
    position: int
    """Place within the block's random order."""
    arm: Arm
    scale: str
    device: str
    seed: int
    threads: int
    seconds: float
    """How long to keep stepping."""
    min_steps: int
    max_steps: int
    min_periods: int = 1
    """Fewest repetitions of the system's own pattern (checkpoints), whatever ``max_steps`` says."""
    timeout_s: float
    data: str | None = None


class Curve(Data, frozen=True, kw_only=True):
    """A figure to draw of the arms: a quantity against an option or a size of the workload."""

    name: str
    """Of the figure's files."""
    title: str
    over: str
    """The option that differs along a line, such as ``every``; or a size, such as ``state_mb``."""
    axis: str
    """What is written under it, unit included."""
    quantity: Quantity


class Plan(Data, frozen=True, kw_only=True):
    """What the experiment set out to do."""

    version: int = RESULTS_VERSION
    experiment: str
    title: str
    question: str
    scale: str
    device: str
    created: str
    """UTC, ISO 8601."""
    tag: str = ""
    """A word of the user's own."""
    seed: int
    threads: int
    executor: str
    margin: float
    """Overheads within ±margin count as no cost."""
    level: float = 0.95
    tolerance: float
    """Largest relative difference of outcomes that still counts as equal work."""
    budget_s: float | None = None
    wanted_mde: float | None = None
    """The smallest effect the user wants told from none, as a share."""
    most_blocks: int | None = None
    """The user's own limit on blocks."""
    warm_up: WarmUp = "found"
    """What is left out of each trial: steps until it settled, or exactly the first period (up to
    the first checkpoint), so that every step after it counts, and all of the final drain."""
    curves: list[Curve] = []
    arms: list[Arm]
    blocks: int
    settings: dict[str, dict[str, Option]]
    """Each system's settings, by label."""
    sizes: dict[str, dict[str, int | str]]
    """Each workload's sizes at this scale."""
    sources: dict[str, str]
    """Where each workload's sizes come from."""
    trials: list[TrialSpec]
    pilot: Pilot | None = None


class Pilot(Data, frozen=True, kw_only=True):
    """What the first blocks said about the noise, and what they promise."""

    blocks: int
    sd_log_ratio: float
    """Standard deviation of the A/A log ratio between blocks, its upper 80 % confidence limit:
    a short pilot underestimates the deviation itself more often than not."""
    mde: float
    """Minimum detectable effect with the planned blocks, as a share: 0.03 is 3 %."""
    power: float
    wanted_mde: float | None = None
    blocks_for_wanted: int | None = None

    @property
    def tells(self) -> bool:
        """Whether the planned blocks could tell even a tenfold cost; two noisy ones cannot."""
        return self.mde <= 9


# ---------------------------------------------------------------- what happened


class Requests(Data, frozen=True, kw_only=True):
    """Of a trial whose steps are requests that come at moments of their own (an open loop).

    All in nanoseconds from when the first could have come. The response of the n-th step is
    ``late_ns[n] + step_ns[n]``: from the request's arrival; the step alone is its service.
    """

    came_ns: list[int]
    """One entry a request that came, in order; those beyond the steps were never turned to."""
    late_ns: list[int]
    """One entry a step: how long its request had waited when it began."""
    ended_ns: int
    """When the trial's time, and the last step, were over."""


class Samples(Data, frozen=True, kw_only=True):
    """Raw, in order, never trimmed. One entry a step."""

    step_ns: list[int]
    step_cpu_ns: list[int]
    values: list[float]
    digests: list[str]
    stall_ns: list[int]
    """One entry a service call (a checkpoint), not a step."""
    durable_ns: list[int] = []
    """One entry a checkpoint: from asking for it until it was durable, where the system knows."""
    first_ns: list[int] = []
    """One entry a step: from its begin until its first unit of work, a token, was known to the
    program; none where that cannot be told, as where all come back together."""
    requests: Requests | None = None
    """None where each step follows the one before (a closed loop)."""


class StartUp(Data, frozen=True, kw_only=True):
    """Nanoseconds from asking for the process to the end of its first step."""

    spawn_ns: int
    """Asking for the process until our code runs in it."""
    import_ns: int
    build_ns: int
    attach_ns: int
    first_step_ns: int
    prepare_ns: int = 0
    """What the system made once for all trials of the workload, in a process of its own, took:
    learning, say. Not part of any trial."""


class Costs(Data, frozen=True, kw_only=True):
    """What the whole measured run took, beside time per step."""

    drain_ns: int
    cpu_ns: int
    peak_rss_bytes: int
    disk_bytes: int
    wire_bytes: int | None
    """In steps, both ways; None where nothing could tell, never 0."""
    wire_sent_bytes: int | None = None
    wire_received_bytes: int | None = None
    gpu_utilization: float | None = None
    """Share of time the device was busy, over NVML's last window (up to a second) at the end of
    the run; None where unknown, never 0."""
    gpu_peak_bytes: int | None = None


class Failure(Data, frozen=True, kw_only=True):
    """Why there are no samples."""

    kind: FailureKind
    message: str
    log: str
    """The log's path within the results folder."""


class Trial(Data, frozen=True, kw_only=True):
    """One arm run once, in a fresh process."""

    version: int = RESULTS_VERSION
    spec: TrialSpec
    started: str
    period: int = 1
    work_count: int = 0
    work_unit: str = ""
    samples: Samples | None = None
    start_up: StartUp | None = None
    costs: Costs | None = None
    counts: dict[str, float] = {}
    """What the system counted, by name."""
    failure: Failure | None = None
    load_before: float | None = None
    """1-minute load average as the trial began."""
    steal_share: float | None = None
    """Share of CPU time the hypervisor took during the trial."""


class Environment(Data, frozen=True, kw_only=True):
    """The machine, as it was."""

    taken: str
    machine: dict[str, str | int | float | None]
    """CPU model, cores, governor, memory, kernel, affinity."""
    load: dict[str, float | None]
    """Load averages, steal share, free memory."""
    versions: dict[str, str | None]
    threads: dict[str, str | int | None]
    device: dict[str, str | int | float | None]
    git: dict[str, str | bool | None]


class EnvironmentPair(Data, frozen=True, kw_only=True):
    """Before the first trial and after the last; ``after`` is None while running or when killed."""

    version: int = RESULTS_VERSION
    before: Environment
    after: Environment | None = None


# ---------------------------------------------------------------- what it means


class Interval(Data, frozen=True, kw_only=True):
    low: float
    high: float
    level: float
    method: str


class Spread(Data, frozen=True, kw_only=True):
    """A quantity over trials (or steps): never over outlier-trimmed data."""

    count: int
    mean: float
    median: float
    std: float | None
    """None for a single value."""
    min: float
    max: float


class Tail(Data, frozen=True, kw_only=True):
    """A percentile of step times with order-statistic bounds."""

    quantile: float
    value: float | None
    low: float | None
    high: float | None
    valid: bool
    reason: str
    """Why it is not valid; empty when it is."""


class TrialSummary(Data, frozen=True, kw_only=True):
    """One successful trial, as the tables over trials take it."""

    id: str
    settled_from: int | None
    """Index of the first settled step; None: no steady state was found."""
    settled_steps: int
    mean_ms: float | None
    """Of its settled steps, pending work drained included: what ``Cell.step_ms`` spreads over."""
    outliers: int
    """Steps beyond 3 scaled MADs of its median: counted and kept."""


class Cell(Data, frozen=True, kw_only=True):
    """One arm, summarised."""

    arm: Arm
    trials: list[str]
    failures: dict[str, Failure]
    steps: int
    """Settled steps, over all trials."""
    unsettled: list[str]
    """Trials that never reached a steady state."""
    outliers: int
    """Steps beyond 3 scaled MADs of their trial's median: counted and kept."""
    warmup_steps: Spread | None
    step_ms: Spread | None
    """Over trials, of each trial's mean settled step (pending work drained included)."""
    throughput: Spread | None
    """Units of work per second, over trials."""
    work_unit: str
    work_count: int = 0
    """Units of work that a step does."""
    unit_ms: Spread | None = None
    """``step_ms`` over ``work_count``: a unit of work, such as a token."""
    first_unit_ms: Spread | None = None
    """Over trials, of the mean over settled steps: from the begin of one until its first unit of
    work, a token, was known to the program. None where nothing can tell."""
    tails_ms: list[Tail]
    stall_ms: Spread | None
    durable_ms: Spread | None = None
    """Over checkpoints: from asking for one until it was durable."""
    calls: int = 0
    """Service calls (checkpoints) made, over all trials."""
    calls_due: int = 0
    """Those that the interval asked for: a system that may skip can make fewer."""
    start_up_ms: dict[str, Spread]
    costs: dict[str, Spread]
    """By quantity, unit in its name: cpu_ms_per_step, peak_rss_mib, disk_mib, wire_mib,
    sent_bytes_per_step, received_bytes_per_step, drain_ms, gpu_utilization, gpu_peak_mib. A
    quantity no trial knows is absent."""
    counts: dict[str, Spread] = {}
    """Over trials, of what the system counted."""
    summaries: list[TrialSummary] = []
    """One for each successful trial, in the order of ``trials``."""


class NoiseFloor(Data, frozen=True, kw_only=True):
    """What native against native showed: nothing below ``floor`` is claimed."""

    workload: str
    ratio: float
    interval: Interval
    floor: float


class CostRatio(Data, frozen=True, kw_only=True):
    """One entry of the cost vector against native, e.g. cpu or memory."""

    quantity: str
    ratio: float
    interval: Interval | None


class Comparison(Data, frozen=True, kw_only=True):
    """One arm against ``native`` of the same blocks."""

    workload: str
    label: str
    blocks: int
    ratio: float | None
    """Geometric mean of within-block ratios of mean step time; 1.05 is 5 % slower."""
    interval: Interval | None
    p_value: float | None
    p_holm: float | None
    cliffs_delta: float | None
    hedges_g: float | None
    verdict: Verdict
    sentence: str
    """The verdict in words, with numbers."""
    equal_work: str
    """"identical", "within <tolerance>", or why the comparison is void or there is none."""
    cost_ratios: list[CostRatio]


class Analysis(Data, frozen=True, kw_only=True):
    """What the results folder says. ``report/results.json`` is this."""

    version: int = RESULTS_VERSION
    plan: Plan
    environment: EnvironmentPair
    cells: list[Cell]
    noise: list[NoiseFloor]
    comparisons: list[Comparison]
    warnings: list[str]
    complete: bool


def schema() -> dict[str, Any]:
    """JSON Schema of everything stored."""
    types = (Plan, EnvironmentPair, Trial, Analysis)
    _, components = msgspec.json.schema_components(types, ref_template="#/$defs/{name}")
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "$defs": components}
