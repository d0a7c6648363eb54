"""How small an effect the planned blocks can tell, and how many blocks a wanted effect takes.

Everything here is about the verdict as it is reached, noise floor and margin included, not about
the t test alone. An arm and the A/A arm are divided by the same native trials, so their log ratios
correlate by one half: where native happened to be slow, the arm's overhead is too low and the
noise floor moved too. Closed forms know nothing of that, so a fixed set of experiments is drawn
from the exact sampling distribution (two correlated means; their covariance by Bartlett's
decomposition of the Wishart distribution, 1933) and each tells the least true effect that would
have been seen in it. Powers are shares of these; the MDE is a quantile of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache

import numpy as np
from scipy import special

from remora.core.errors import BadValue
from remora.lab.statistics.arrays import FloatArray, Numbers, finite, log_margin, share
from remora.lab.statistics.pivot import ratio

MOST_BLOCKS = 1_000
"""More blocks than this are not proposed: the noise is to be mended instead."""

_EXPERIMENTS = 20_000
_SEED = 20_240_229
_SHARED_NATIVE = 0.5
"""Correlation of log(arm / native) and log(again / native) where all three vary alike."""


def planning_sd(*again: Numbers, confidence: float = 0.8) -> float | None:
    """The upper confidence limit of the A/A log ratios' standard deviation; None below two blocks.

    Several sets (one a workload) are pooled: noise is the machine's more than the workload's, and
    a short pilot has few blocks to tell it from.

    A pilot of few blocks underestimates the deviation more often than not, and the plan would
    promise too much. The limit from the χ² distribution is above the truth in ``confidence`` of
    pilots: the estimate times 2.1 with 3 blocks, 1.6 with 5, 1.3 with 10 (Browne 1995, "On the
    use of a pilot sample for sample size determination", Statistics in Medicine 14).
    """
    sets = [finite(one, "again") for one in again]
    freedom = sum(max(0, one.size - 1) for one in sets)
    if freedom == 0:
        return None
    squares = sum(float(((one - one.mean()) ** 2).sum()) for one in sets if one.size)
    quantile = float(special.chdtri(freedom, share(confidence, "confidence")))
    return math.sqrt(squares / quantile)


def power(
    effect: float,
    sd: float,
    blocks: int,
    *,
    margin: float = 0.0,
    level: float = 0.95,
    arms: int = 1,
) -> float:
    """The chance that an arm that truly costs ``effect`` (0.03 is 3 %) gets the verdict "costs".

    ``sd`` is the standard deviation of the A/A log ratios between blocks. With a ``margin``,
    effects that would be shown to lie within it count as not told ("no cost" is the verdict then);
    0 asks for the difference alone. ``arms`` in the table share the level by Holm; the power is
    that of the hardest case, where no other arm is different.
    """
    if effect <= 0:
        raise BadValue(f"the effect must be a positive share, not {effect!r}; write 3 % as 0.03")
    least = _least_effects(sd, blocks, margin, level, arms)
    return float(np.mean(least < math.log1p(effect)))


def minimum_detectable_effect(
    sd: float,
    blocks: int,
    power: float = 0.8,
    *,
    margin: float = 0.0,
    level: float = 0.95,
    arms: int = 1,
) -> float:
    """The least cost (a share) that gets the verdict "costs" with chance ``power``."""
    least = _least_effects(sd, blocks, margin, level, arms)
    return ratio(float(np.quantile(least, share(power, "power")))) - 1


def blocks_needed(
    effect: float,
    sd: float,
    power: float = 0.8,
    *,
    margin: float = 0.0,
    level: float = 0.95,
    arms: int = 1,
) -> int | None:
    """The fewest blocks whose minimum detectable effect is at most ``effect``.

    None where 1,000 would not do; so always for an effect inside the margin, which more blocks
    only show the more clearly to be no cost.
    """
    if effect <= 0:
        raise BadValue(f"the effect must be a positive share, not {effect!r}; write 3 % as 0.03")

    def enough(blocks: int) -> bool:
        return (
            minimum_detectable_effect(sd, blocks, power, margin=margin, level=level, arms=arms)
            <= effect
        )

    return _fewest(enough)


def blocks_to_tell(
    effect: float, again: Numbers, *, margin: float = 0.0, level: float = 0.95, arms: int = 1
) -> int | None:
    """:func:`blocks_needed` from the A/A log ratios at hand, by :func:`planning_sd`; None where
    there are fewer than two."""
    sd = planning_sd(again)
    if sd is None:
        return None
    return blocks_needed(effect, sd, margin=margin, level=level, arms=arms)


def power_of_no_cost(
    margin: float, sd: float, blocks: int, *, level: float = 0.95, arms: int = 1
) -> float:
    """The chance that an arm that truly costs nothing gets the verdict "no cost"."""
    draws = experiments(_checked(blocks))
    reach = draws.arm_error * _critical(1 - (1 - level) / arms, blocks)
    return float(np.mean(_positive(sd) * (np.abs(draws.arm_mean) + reach) < log_margin(margin)))


def blocks_for_no_cost(
    margin: float, sd: float, power: float = 0.8, *, level: float = 0.95, arms: int = 1
) -> int | None:
    """The fewest blocks that show an arm that costs nothing to be within the margin, with chance
    ``power``; None where 1,000 would not do."""
    share(power, "power")
    return _fewest(
        lambda blocks: power_of_no_cost(margin, sd, blocks, level=level, arms=arms) >= power
    )


class Experiments:
    """Means and standard errors of log ratios with unit deviation, one entry an experiment."""

    def __init__(self, blocks: int) -> None:
        rng = np.random.default_rng(_SEED)
        first, second, tilt = rng.standard_normal((3, _EXPERIMENTS))
        rest = math.sqrt(1 - _SHARED_NATIVE**2)
        root = math.sqrt(blocks)
        self.arm_mean: FloatArray = first / root
        self.again_mean: FloatArray = (_SHARED_NATIVE * first + rest * second) / root
        own = np.sqrt(_chi_square(rng, blocks - 1))
        other = np.sqrt(_chi_square(rng, blocks - 2))
        scale = root * math.sqrt(blocks - 1)
        self.arm_error: FloatArray = own / scale
        self.again_error: FloatArray = (
            np.hypot(_SHARED_NATIVE * own + rest * tilt, rest * other) / scale
        )


def _chi_square(rng: np.random.Generator, freedom: int) -> FloatArray:
    return rng.chisquare(freedom, _EXPERIMENTS) if freedom else np.zeros(_EXPERIMENTS)


@lru_cache(maxsize=16)
def experiments(blocks: int) -> Experiments:
    """The drawn experiments of so many blocks (at least two): the same on every call."""
    return Experiments(blocks)


def _least_effects(sd: float, blocks: int, margin: float, level: float, arms: int) -> FloatArray:
    """For each drawn experiment, the log effect above which its verdict would be "costs"."""
    draws = experiments(_checked(blocks))
    alpha = (1 - share(level, "level")) / arms
    critical = _critical(1 - alpha / 2, blocks)
    deviation = _positive(sd)
    significant = deviation * critical * draws.arm_error
    # The floor is not shared out: it is one interval at the stated level, whatever the table.
    half = deviation * _critical((1 + level) / 2, blocks) * draws.again_error
    centre = deviation * draws.again_mean
    # The larger of |high − 1| and |low − 1|, as a log ratio above 1.
    floor = np.maximum(centre + half, np.log1p(-np.expm1(np.minimum(centre - half, 0.0))))
    least = np.maximum(significant, floor)
    if margin:
        within = deviation * _critical(1 - alpha, blocks) * draws.arm_error
        least = np.maximum(least, log_margin(margin) - within)
    return least - deviation * draws.arm_mean


def _critical(probability: float, blocks: int) -> float:
    return float(special.stdtrit(blocks - 1, probability))


def _fewest(enough: Callable[[int], bool]) -> int | None:
    """The least number of blocks for which ``enough`` holds, by bisection: it grows with blocks."""
    if not enough(MOST_BLOCKS):
        return None
    too_few, plenty = 1, MOST_BLOCKS
    while plenty - too_few > 1:
        middle = (too_few + plenty) // 2
        too_few, plenty = (too_few, middle) if enough(middle) else (middle, plenty)
    return plenty


def _checked(blocks: int) -> int:
    if blocks < 2:
        raise BadValue(f"a plan needs at least 2 blocks, not {blocks}")
    return blocks


def _positive(sd: float) -> float:
    if not 0 <= sd < math.inf:
        raise BadValue(f"the standard deviation must be a finite number from 0 on, not {sd!r}")
    return sd
