"""Raw samples of an arm, picked out and thinned for drawing; never for a test."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from remora.lab.results import Analysis, Trial, TrialSummary

Array = npt.NDArray[np.float64]

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


@dataclass(frozen=True)
class Measured:
    """One successful trial: all its step times and its summary, where the analysis has one."""

    trial: Trial
    steps_ms: Array
    stalls_ms: Array
    summary: TrialSummary | None

    @property
    def settled_ms(self) -> Array:
        """The steps that the analysis summarised; none where it summarised none."""
        if self.summary is None:
            return self.steps_ms[:0]
        if self.summary.settled_from is None:  # never steady: the last ones stand for it
            return self.steps_ms[len(self.steps_ms) - self.summary.settled_steps :]
        return self.steps_ms[self.summary.settled_from :]


def measured(analysis: Analysis, trials: Sequence[Trial]) -> dict[str, list[Measured]]:
    """The successful trials of every arm, by the arm's name and in the order of blocks."""
    summaries = {s.id: s for cell in analysis.cells for s in cell.summaries}
    found: dict[str, list[Measured]] = {arm.name: [] for arm in analysis.plan.arms}
    for trial in sorted(trials, key=lambda t: (t.spec.block, t.spec.position)):
        if trial.samples is None or not trial.samples.step_ns:
            continue
        entry = Measured(
            trial=trial,
            steps_ms=np.asarray(trial.samples.step_ns, dtype=np.float64) / 1e6,
            stalls_ms=np.asarray(trial.samples.stall_ns, dtype=np.float64) / 1e6,
            summary=summaries.get(trial.spec.id),
        )
        found.setdefault(trial.spec.arm.name, []).append(entry)
    return found


def joined(parts: Sequence[Array]) -> Array:
    """All values in one array; empty where there are none."""
    return np.concatenate(parts) if parts else np.empty(0)


def quantiles(values: Array) -> list[float]:
    """The ``QUANTILES`` of what is drawn as a bar."""
    return [float(value) for value in np.quantile(values, QUANTILES)]


def envelope(values: Array, points: int) -> tuple[Array, Array]:
    """Indices and values of at most ``points`` samples that keep every stretch's extremes.

    A trace of thousands of steps looks the same so drawn, spikes included.
    """
    if len(values) <= points:
        return np.arange(len(values), dtype=np.float64), values
    edges = np.linspace(0, len(values), points // 2 + 1).astype(int)
    kept: set[int] = set()
    for start, end in itertools.pairwise(edges):
        stretch = values[start:end]
        kept |= {start + int(stretch.argmin()), start + int(stretch.argmax())}
    index = np.asarray(sorted(kept))
    return index.astype(np.float64), values[index]
