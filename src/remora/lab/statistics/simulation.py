"""How often the statistics err, found by drawing experiments whose truth is known.

The drawn experiments are nested as real ones are: every trial has its own speed (processes of one
program differ, log-normally), every step its own noise around that. The tests hold the rates to
what is promised, and ``python -m benchmarks.statistics`` prints them for docs/statistics.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special, stats

from remora.lab.statistics.arrays import FloatArray
from remora.lab.statistics.planning import minimum_detectable_effect
from remora.lab.statistics.ratios import log_ratios, mean_interval, recovered
from remora.lab.statistics.tails import tail
from remora.lab.statistics.verdict import judge_table
from remora.lab.statistics.warmup import settled_from

Shape = Callable[[FloatArray], NDArray[np.floating]]
"""From place in the run (0 to 1) to log step time."""


@dataclass(frozen=True, slots=True)
class Noise:
    """Standard deviations of log times; a disturbed trial is slower as a whole."""

    between: float = 0.03
    within: float = 0.05
    steps: int = 30
    disturbed: float = 0.0
    """Share of trials that something else on the machine disturbs."""
    disturbance: float = 0.15

    def trials(self, rng: np.random.Generator, shape: tuple[int, ...]) -> FloatArray:
        """Steps of each trial, in ms: ``shape`` trials by ``steps``."""
        speed = rng.normal(0.0, self.between, (*shape, 1))
        speed += self.disturbance * (rng.random((*shape, 1)) < self.disturbed)
        return np.exp(speed + rng.normal(0.0, self.within, (*shape, self.steps)))

    def means(self, rng: np.random.Generator, shape: tuple[int, ...]) -> FloatArray:
        """The mean step of each trial."""
        return np.asarray(self.trials(rng, shape).mean(axis=-1))

    @property
    def ratio_sd(self) -> float:
        """Standard deviation of the log ratio of two undisturbed trials."""
        return math.sqrt(2 * (self.between**2 + math.expm1(self.within**2) / self.steps))


PLAIN = Noise()
DISTURBED = Noise(disturbed=0.05)


def coverage(
    blocks: int, effect: float, experiments: int, seed: int = 0, noise: Noise = PLAIN
) -> tuple[float, float]:
    """Share of 95 % intervals that hold the injected effect, and the mean error of the estimate."""
    rng = np.random.default_rng(seed)
    hits, total = 0, 0.0
    for _ in range(experiments):
        native, arm = noise.means(rng, (2, blocks))
        logs = log_ratios(arm * (1 + effect), native)
        hits += recovered(mean_interval(logs), effect)
        total += math.expm1(float(logs.mean())) - effect
    return hits / experiments, total / experiments


def verdict_shares(
    blocks: int,
    effect: float,
    experiments: int,
    *,
    arms: int = 1,
    margin: float = 0.02,
    seed: int = 0,
    noise: Noise = PLAIN,
) -> dict[str, float]:
    """Share of tables in which at least one arm got each verdict; every arm costs ``effect``."""
    rng = np.random.default_rng(seed)
    counts = dict.fromkeys(("no cost", "costs", "gains", "undecided"), 0)
    for _ in range(experiments):
        native, again, *others = noise.means(rng, (2 + arms, blocks))
        table = {str(i): log_ratios(arm * (1 + effect), native) for i, arm in enumerate(others)}
        judged = judge_table(table, log_ratios(again, native), margin)
        for verdict in {judgement.verdict for judgement in judged.values()}:
            counts[verdict] += 1
    return {verdict: count / experiments for verdict, count in counts.items()}


def promised_power(
    blocks: int, experiments: int, *, margin: float = 0.02, seed: int = 0, noise: Noise = PLAIN
) -> tuple[float, float]:
    """The effect said to be told with power 0.8, and how often it is."""
    effect = minimum_detectable_effect(noise.ratio_sd, blocks, margin=margin)
    shares = verdict_shares(blocks, effect, experiments, margin=margin, seed=seed, noise=noise)
    return effect, shares["costs"]


def raw_step_alarms(experiments: int, seed: int = 0, noise: Noise = PLAIN) -> float:
    """How often Welch's test over raw steps, 5 trials an arm, calls identical code different."""
    rng = np.random.default_rng(seed)
    first, second = (noise.trials(rng, (experiments, 5)).reshape(experiments, -1) for _ in "ab")
    return float(np.mean(stats.ttest_ind(first, second, axis=1, equal_var=False).pvalue < 0.05))


def tail_rates(
    trials: int, quantile: float, experiments: int, *, seed: int = 0, noise: Noise = PLAIN
) -> tuple[float, float]:
    """Share of tails that are valid, and share of experiments with valid but wrong bounds."""
    rng = np.random.default_rng(seed)
    truth = math.exp(math.hypot(noise.between, noise.within) * float(special.ndtri(quantile)))
    valid, wrong = 0, 0
    for _ in range(experiments):
        found = tail(list(noise.trials(rng, (trials,))), quantile)
        valid += found.valid
        if found.low is not None and found.high is not None:
            wrong += not found.low <= truth <= found.high
    return valid / experiments, wrong / experiments


def settled_rates(
    shape: Shape,
    steps: int,
    experiments: int,
    *,
    within: float = 0.03,
    heavy: bool = False,
    period: int = 1,
    seed: int = 0,
) -> tuple[float, float]:
    """Share of runs found to settle, and the median share of those runs' steps before it.

    ``heavy`` draws the noise from Student's t with 3 degrees of freedom; with a ``period`` every
    so many steps one takes three times as long.
    """
    rng = np.random.default_rng(seed)
    place = np.arange(steps) / steps
    spikes = math.log(3) * (np.arange(steps) % period == period - 1) * (period > 1)
    starts = []
    for _ in range(experiments):
        noise = rng.standard_t(3, steps) if heavy else rng.standard_normal(steps)
        starts.append(settled_from(np.exp(shape(place) + spikes + within * noise), period))
    found = [start for start in starts if start is not None]
    return len(found) / experiments, float(np.median(found)) / steps if found else math.nan


RUNS: dict[str, Shape] = {
    "flat": lambda place: 0 * place,
    "slow first step": lambda place: 1.5 * (place == 0),
    "exponential warm-up": lambda place: 0.8 * np.exp(-place / 0.08),
    "step down after a quarter": lambda place: 0.3 * (place < 0.25),
    "drift of +20 %": lambda place: math.log(1.2) * place,
    "drift of −20 %": lambda place: math.log(0.8) * place,
    "shift of +20 % at 70 %": lambda place: math.log(1.2) * (place >= 0.7),
}
SETTLING = ("flat", "slow first step", "exponential warm-up", "step down after a quarter")
