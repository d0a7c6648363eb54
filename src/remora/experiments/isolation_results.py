"""What the isolation experiment found, a row an arm: each against serving alone, block by block."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from remora.experiments.isolation_rows import (
    AGAIN,
    ALONE,
    SYSTEM,
    executor_of,
    load_of,
    policy_of,
    trains_of,
)
from remora.experiments.isolation_trials import (
    QUANTILES,
    ByBlock,
    Served,
    percentile,
    served_by_arm,
)
from remora.lab.results import Analysis, Arm, Failure, Interval, Plan, Tail, Trial, Verdict
from remora.lab.statistics.arrays import FloatArray
from remora.lab.statistics.judgement import Judgement
from remora.lab.statistics.ratios import mean_interval, mean_ratio
from remora.lab.statistics.tails import fewest_steps, tail
from remora.lab.statistics.verdict import judge_table

P99 = 0.99
OF_WHAT_IS_LEFT = "of what is left"


@dataclass(frozen=True)
class Value:
    """A mean over trials, or a geometric mean of ratios within blocks, and its interval."""

    mean: float | None
    interval: Interval | None = None
    reason: str = ""
    """Why there is none."""

    @property
    def low(self) -> float | None:
        return self.interval.low if self.interval is not None else None

    @property
    def high(self) -> float | None:
        return self.interval.high if self.interval is not None else None


NOTHING = Value(None)


@dataclass(frozen=True, kw_only=True)
class Row:
    """One arm. Latencies are in milliseconds, at each of the quantiles."""

    arm: Arm
    executor: str
    serves: str
    trains: str
    """Empty for the one that serves alone."""
    policy: str
    load: float
    failure: Failure | None = None
    trials: int = 0
    requests: int = 0
    response_ms: tuple[Tail, ...] = ()
    service_ms: tuple[Tail, ...] = ()
    response_ratio: tuple[Value, ...] = ()
    """Over the same percentile alone."""
    service_ratio: tuple[Value, ...] = ()
    bound_ms: float | None = None
    """A request done within this of its arrival is in time: the response p99 alone."""
    goodput_per_s: Value = NOTHING
    in_time: float | None = None
    """The share of the requests that came."""
    serving: Value = NOTHING
    """Requests served, over those served alone."""
    training: Value = NOTHING
    """Steps of the best-effort job, over those it makes alone."""
    training_of_left: Value = NOTHING
    """The same over the share of the shared cores' time that serving alone leaves."""
    most_backlog: int = 0
    unstable_trials: int = 0
    alone_is_unstable: bool = False
    """The one it is held against could not keep up by itself: nothing is said of either."""
    cores_busy: float | None = None
    training_rss_mib: float | None = None
    serving_rss_mib: float | None = None
    judgement: Judgement | None = None
    """Of the response p99."""

    @property
    def policy_name(self) -> str:
        """Without its options."""
        return self.policy.partition(":")[0]

    @property
    def is_alone(self) -> bool:
        return not self.trains

    @property
    def is_unstable(self) -> bool:
        """Its queue grew in some trial: then percentiles say only for how long was measured."""
        return self.unstable_trials > 0

    @property
    def system(self) -> float | None:
        """Both normalised throughputs together."""
        if self.serving.mean is None:
            return None
        if self.is_alone:
            return self.serving.mean
        return None if self.training.mean is None else self.serving.mean + self.training.mean

    @property
    def verdict(self) -> Verdict | str:
        """Of the response p99, in a word."""
        if not self.trials:
            return "failed"
        if self.is_alone:
            return "noise floor" if AGAIN in self.arm.label else "baseline"
        if self.is_unstable:
            return "unstable"
        if self.alone_is_unstable:
            return "void: alone is unstable"
        if self.judgement is None:
            return "INVALID"
        return self.judgement.verdict


def rows(analysis: Analysis, trials: Sequence[Trial]) -> list[Row]:
    """A row for every arm that serves in an open loop, in the plan's order."""
    plan, served = analysis.plan, served_by_arm(trials)
    failures = {cell.arm.name: next(iter(cell.failures.values()), None) for cell in analysis.cells}
    groups: dict[tuple[str, str, float], list[Arm]] = {}
    for arm in plan.arms:
        if arm.system == SYSTEM:
            key = (arm.workload, executor_of(arm), load_of(arm))
            groups.setdefault(key, []).append(arm)
    found = {
        row.arm.name: row
        for arms in groups.values()
        for row in _Group(plan, arms, {a.name: served.get(a.name, {}) for a in arms}).rows(failures)
    }
    return [found[arm.name] for arm in plan.arms if arm.name in found]


@dataclass(frozen=True)
class _Group:
    """The arms of one workload and one executor at one load."""

    plan: Plan
    arms: Sequence[Arm]
    served: dict[str, ByBlock]
    alone: ByBlock = field(init=False)

    def __post_init__(self) -> None:
        found = [arm for arm in self.arms if arm.label.startswith(ALONE)]
        base = next((arm for arm in found if AGAIN not in arm.label), None)
        object.__setattr__(self, "alone", self.served[base.name] if base is not None else {})

    def rows(self, failures: dict[str, Failure | None]) -> Iterator[Row]:
        judged = self._judged()
        for arm in self.arms:
            row = self._row(arm, failures.get(arm.name), judged.get(arm.name))
            yield row

    def _judged(self) -> dict[str, Judgement]:
        """The response p99 of each arm against that alone, corrected over the arms of the group."""
        logs = {
            arm.name: _logs(self.served[arm.name], self.alone, _response(P99))
            for arm in self.arms
            if self.served[arm.name] is not self.alone
            and not _why_no_ratio(self.served[arm.name], self.alone, P99)
        }
        again = next((logs.pop(a.name) for a in self.arms if AGAIN in a.label and a.name in logs),
                     np.array([]))  # fmt: skip
        plan = self.plan
        return judge_table(logs, again, margin=plan.margin, level=plan.level, seed=plan.seed)

    def _row(self, arm: Arm, failure: Failure | None, judgement: Judgement | None) -> Row:
        mine = self.served[arm.name]
        known = Row(
            arm=arm,
            executor=executor_of(arm),
            serves=arm.workload,
            trains=trains_of(arm),
            policy=policy_of(arm),
            load=load_of(arm),
            failure=failure,
        )
        return self._measured(known, mine, judgement) if mine else known

    def _measured(self, row: Row, mine: ByBlock, judgement: Judgement | None) -> Row:
        level, bound = self.plan.level, _tail(self.alone, "response_ms", P99, self.plan.level)
        all_of = list(mine.values())
        came = sum(len(each.requests.came_ns) for each in all_of)
        in_time = None
        if bound.value is not None:
            done = sum(each.in_time_per_s(bound.value) * each.duration_s for each in all_of)
            in_time = done / came if came else None
        values = {
            "response_ms": tuple(_tail(mine, "response_ms", q, level) for q in QUANTILES),
            "service_ms": tuple(_tail(mine, "service_ms", q, level) for q in QUANTILES),
        }
        return Row(
            arm=row.arm, executor=row.executor, serves=row.serves, trains=row.trains,
            policy=row.policy, load=row.load, failure=row.failure,
            trials=len(mine),
            requests=came,
            response_ms=values["response_ms"],
            service_ms=values["service_ms"],
            response_ratio=tuple(self._ratio(mine, "response_ms", q) for q in QUANTILES),
            service_ratio=tuple(self._ratio(mine, "service_ms", q) for q in QUANTILES),
            bound_ms=bound.value,
            goodput_per_s=self._goodput(all_of, bound),
            in_time=in_time,
            serving=self._over_blocks(mine, lambda one, base: one.served_per_s / base.served_per_s),
            training=self._over_blocks(mine, lambda one, base: _training(one)),
            training_of_left=self._over_blocks(
                mine, lambda one, base: _training(one) / max(1e-9, base.left)
            ),
            most_backlog=max(each.most_backlog for each in all_of),
            unstable_trials=sum(each.is_unstable for each in all_of),
            alone_is_unstable=any(each.is_unstable for each in self.alone.values()),
            cores_busy=_mean([each.count("cores_busy") for each in all_of]),
            training_rss_mib=_mean([each.count("best_effort_peak_rss_mib") for each in all_of]),
            serving_rss_mib=_mean([_rss_mib(each) for each in all_of]),
            judgement=judgement,
        )  # fmt: skip

    def _goodput(self, all_of: Sequence[Served], bound: Tail) -> Value:
        if bound.value is None:
            return Value(None, reason=bound.reason)
        return Value(float(np.mean([each.in_time_per_s(bound.value) for each in all_of])))

    def _ratio(self, mine: ByBlock, quantity: str, quantile: float) -> Value:
        if mine is self.alone:
            return NOTHING
        return ratio(self.plan, mine, self.alone, quantity, quantile)

    def _over_blocks(self, mine: ByBlock, read: Callable[[Served, Served], float]) -> Value:
        values = [read(mine[block], self.alone[block]) for block in _both(mine, self.alone)]
        known = np.array([value for value in values if value == value], dtype=np.float64)
        if not known.size:
            return NOTHING
        if (known <= 0).any():
            return Value(float(known.mean()), reason="a trial had none: no interval of ratios")
        return _of_logs(self.plan, np.log(known))


def ratio(plan: Plan, mine: ByBlock, base: ByBlock, quantity: str, quantile: float) -> Value:
    """A percentile of each trial over that of ``base`` in the same block."""
    if reason := _why_no_ratio(mine, base, quantile):
        return Value(None, reason=reason)
    return _of_logs(plan, _logs(mine, base, _of(quantity, quantile)))


def _of_logs(plan: Plan, logs: FloatArray) -> Value:
    return Value(mean_ratio(logs), mean_interval(logs, plan.level, plan.seed))


def _why_no_ratio(mine: ByBlock, base: ByBlock, quantile: float) -> str:
    """Why the percentiles of trials cannot be held against each other; empty where they can.

    What bounds the ratio is how it scatters over blocks, whose requests come at the same moments
    in both: so how much the requests of one trial resemble each other does no harm. But each
    trial's percentile has to be more than its greatest request.
    """
    if len(both := _both(mine, base)) < 2:
        return f"a ratio needs at least 2 blocks; there are {len(both)}"
    each_needs, all_need = round(1 / (1 - quantile)), fewest_steps(quantile)
    sizes = [len(one[block].response_ms) for one in (mine, base) for block in both]
    if min(sizes) < each_needs or sum(sizes[: len(both)]) < all_need:
        return (
            f"p{100 * quantile:g} needs at least {each_needs:,} requests in each trial and "
            f"{all_need:,} in all; there are {min(sizes):,} and {sum(sizes[: len(both)]):,}"
        )
    return ""


def _training(one: Served) -> float:
    found = one.count("best_effort_normalised")
    return float("nan") if found is None else found


def _rss_mib(one: Served) -> float | None:
    costs = one.trial.costs
    return None if costs is None else costs.peak_rss_bytes / 2**20


def _tail(mine: ByBlock, quantity: str, quantile: float, level: float) -> Tail:
    return tail([getattr(each, quantity) for each in mine.values()], quantile, level)


def _of(quantity: str, quantile: float) -> Callable[[Served], float]:
    return lambda one: percentile(getattr(one, quantity), quantile)


def _response(quantile: float) -> Callable[[Served], float]:
    return _of("response_ms", quantile)


def _both(mine: ByBlock, base: ByBlock) -> list[int]:
    return sorted(mine.keys() & base.keys())


def _logs(mine: ByBlock, base: ByBlock, read: Callable[[Served], float]) -> FloatArray:
    return np.log([read(mine[block]) / read(base[block]) for block in _both(mine, base)])


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None
