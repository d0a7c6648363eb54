"""Trials summarised: one number a trial before any test sees it (rule 1)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from remora.lab.results import Costs, Samples, StartUp, Trial, WarmUp
from remora.lab.statistics.warmup import settled_from

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Measured:
    """A successful trial and what its samples come down to."""

    trial: Trial
    samples: Samples
    costs: Costs
    start_up: StartUp
    warm_up: WarmUp = "found"

    @classmethod
    def of(cls, trial: Trial, warm_up: WarmUp = "found") -> Measured | None:
        """The summary of ``trial``; None when it failed."""
        if trial.samples is None or trial.costs is None or trial.start_up is None:
            return None
        return cls(trial, trial.samples, trial.costs, trial.start_up, warm_up)

    @property
    def id(self) -> str:
        return self.trial.spec.id

    @property
    def block(self) -> int:
        return self.trial.spec.block

    @cached_property
    def step_ns(self) -> Floats:
        return np.asarray(self.samples.step_ns, dtype=np.float64)

    @cached_property
    def settled_from(self) -> int | None:
        """The first settled step; None when the trial never came to rest."""
        if self.warm_up == "first period":
            return self.trial.period if len(self.step_ns) > self.trial.period else 0
        return settled_from(self.step_ns, self.trial.period)

    @cached_property
    def first_counted(self) -> int:
        """Where counting starts: settled, or past the first half where nothing settles."""
        if self.settled_from is not None:
            return self.settled_from
        half = len(self.step_ns) // 2
        return half - half % self.trial.period

    @cached_property
    def counted_ns(self) -> Floats:
        return self.step_ns[self.first_counted :]

    @cached_property
    def mean_step_ns(self) -> float:
        """Mean settled step with its share of the final drain: what a step really takes.

        Where only the first period is left out, the steps counted bear the whole drain: their time
        and it make up the time from the first checkpoint to the moment the last is durable.
        """
        return float(self.counted_ns.mean()) + self.costs.drain_ns / len(self._bearers)

    @property
    def drain_share(self) -> float:
        """Of the time of the steps that bear the drain, and of the drain."""
        return self.costs.drain_ns / (float(self._bearers.sum()) + self.costs.drain_ns)

    @property
    def _bearers(self) -> Floats:
        return self.step_ns if self.warm_up == "found" else self.counted_ns

    @cached_property
    def cpu_ns_per_step(self) -> float:
        drain = self.costs.cpu_ns - sum(self.samples.step_cpu_ns)
        counted = np.asarray(self.samples.step_cpu_ns[self.first_counted :], dtype=np.float64)
        return float(counted.mean()) + drain / len(self.step_ns)

    @property
    def throughput(self) -> float:
        """Units of work a second."""
        return self.trial.work_count / (self.mean_step_ns / 1e9)

    @property
    def unit_ns(self) -> float | None:
        """A step over its units of work."""
        return self.mean_step_ns / self.trial.work_count if self.trial.work_count else None

    @property
    def first_unit_ns(self) -> float | None:
        """Mean over the counted steps; None where steps did not tell."""
        counted = self.samples.first_ns[self.first_counted :]
        return float(np.mean(counted)) if counted else None

    @property
    def stall_ns(self) -> list[int]:
        """Of the service calls that count: a first period's warm-up leaves out the first."""
        return self.samples.stall_ns[self._first_call :]

    @property
    def durable_ns(self) -> list[int]:
        """Of the checkpoints that count, as with :attr:`stall_ns`."""
        return self.samples.durable_ns[self._first_call :]

    @property
    def _first_call(self) -> int:
        return 1 if self.warm_up == "first period" and self.first_counted else 0

    @property
    def calls(self) -> int:
        """Service calls made: where it is known which became durable, those."""
        return len(self.samples.durable_ns) or len(self.samples.stall_ns)

    @property
    def calls_due(self) -> int:
        """Service calls that the interval asked for; 0 for a system that makes none."""
        return len(self.step_ns) // self.trial.period if self.samples.stall_ns else 0

    @property
    def start_up_ns(self) -> int:
        parts = self.start_up
        return (
            parts.spawn_ns
            + parts.import_ns
            + parts.build_ns
            + parts.attach_ns
            + parts.first_step_ns
        )


Arms = Mapping[str, Mapping[int, Measured]]
"""An arm's summaries by block, by the arm's name (``workload/label``)."""


def by_arm(trials: Iterable[Trial], warm_up: WarmUp = "found") -> Arms:
    """The successful trials, by arm and block."""
    arms: dict[str, dict[int, Measured]] = defaultdict(dict)
    for trial in trials:
        if summary := Measured.of(trial, warm_up):
            arms[trial.spec.arm.name][summary.block] = summary
    return arms


def paired(
    arm: Mapping[int, Measured], native: Mapping[int, Measured]
) -> list[tuple[Measured, Measured]]:
    """The blocks that have both, in order."""
    return [(arm[block], native[block]) for block in sorted(arm.keys() & native.keys())]


def log_ratios(
    pairs: Sequence[tuple[Measured, Measured]],
    quantity: Callable[[Measured], float] = lambda summary: summary.mean_step_ns,
) -> Floats:
    """Natural logs of arm over native, one a block; pairs where either is not positive drop out."""
    values = [(quantity(a), quantity(b)) for a, b in pairs]
    return np.log([a / b for a, b in values if a > 0 and b > 0])


def again_log_ratios(trials: Iterable[Trial], warm_up: WarmUp = "found") -> dict[str, Floats]:
    """The A/A log ratios of every workload: native again against native, within blocks."""
    trials = list(trials)
    arms = by_arm(trials, warm_up)
    names = {(t.spec.arm.workload, t.spec.arm.role): t.spec.arm.name for t in trials}
    found = {}
    for workload in dict.fromkeys(trial.spec.arm.workload for trial in trials):
        again = arms.get(names.get((workload, "again"), ""))
        native = arms.get(names.get((workload, "baseline"), ""))
        if again and native:
            found[workload] = log_ratios(paired(again, native))
    return found
