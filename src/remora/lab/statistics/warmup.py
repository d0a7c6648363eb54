"""Where a trial's steps settle, if they do.

The run is cut into stretches, each level or sloping, as few as the noise allows: optimal
partitioning by dynamic programming (Jackson et al. 2005, "An algorithm for optimal partitioning
of data on an interval", IEEE Signal Process. Lett. 12) under an information criterion with unknown
variance. Steady is what Barrett et al. (2017, "Virtual machine warmup blows hot and cold", OOPSLA,
section 4) call so: the last stretch is level, earlier ones that differ from it by less than is
worth speaking of belong to it, and together they are long enough.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from remora.core.errors import BadValue
from remora.lab.statistics.arrays import FloatArray, Numbers, positive
from remora.lab.statistics.describe import MAD_TO_SIGMA, OUTLIER_MADS

FEWEST_PERIODS = 8
"""Fewer periods (or steps) than this show nothing: None."""

SETTLED_SHARE = 0.5
"""The least share of a run that must be steady. A shift or a warm-up past the middle leaves too
little to call a state."""

TOLERANCE = 0.02
"""Levels and slopes that differ by less than this share are the same level."""

MOST_BINS = 48
"""Longer runs are binned (medians) before they are cut; the cost grows with the square."""

_ENOUGH_ALONE = 10
"""Bins that show a slope by themselves."""

_TAIL_OF_WARMUP = 0.25
"""The most of a warm-up that its last, leaning stretch may hold."""

_PENALTY = 1.7
"""Parameters cost this times log(bins), where the usual criterion says 1. Simulated: see
docs/statistics.md."""


_LEVEL, _SLOPE = 2, 3
"""Parameters of a stretch, its cut among them; also the values it needs at the least."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """Bins ``start`` … ``stop`` − 1; log step time goes from ``first`` to ``last``."""

    start: int
    stop: int
    first: float
    last: float


def settled_from(step_ns: Numbers, period: int = 1) -> int | None:
    """The first settled step of one trial, or None for "no steady state".

    ``step_ns`` are the trial's step times in order, in any unit; costs that come every ``period``
    steps (a checkpoint) are part of the steady state. What is settled, ``step_ns[result:]``, is
    always a whole number of periods. None means drift, a late shift, or too few steps to tell.
    """
    steps = positive(step_ns, "step times")
    if period < 1:
        raise BadValue(f"a period is at least one step, not {period}")
    # Counted from the end, so that the settled part is whole; a broken period at the start goes.
    periods = steps.size // period
    odd = steps.size - periods * period
    if periods >= FEWEST_PERIODS:
        means = np.log(steps[odd:].reshape(periods, period).mean(axis=1))
        found = _settled(means)
        return None if found is None else odd + found * period
    if steps.size < FEWEST_PERIODS:
        return None
    # Too few periods to compare with one another; the steps can be, their spikes being outliers.
    found = _settled(np.log(steps))
    if found is None:
        return None
    whole = odd + math.ceil(max(0, found - odd) / period) * period
    return whole if whole < steps.size else None


def _settled(values: FloatArray) -> int | None:
    """The first settled of ``values``, one log time a period."""
    width = math.ceil(values.size / MOST_BINS) | 1  # odd: a median of two shields from nothing
    odd = values.size % width
    bins = np.median(values[odd:].reshape(-1, width), axis=1)
    start = _steady_bin(without_spikes(bins))
    if start is None:
        return None
    return _past_slow_start(values, odd + start * width if start else 0)


def _steady_bin(bins: FloatArray) -> int | None:
    cut = stretches(bins)
    half = bins.size // 2
    if half >= _ENOUGH_ALONE and _ends_a_warmup(cut) and len(again := stretches(bins[half:])) == 1:
        return None if steady_start(again) is None else half
    return steady_start(cut)


def _ends_a_warmup(cut: list[Stretch]) -> bool:
    """Whether the last stretch leans as the tail of a much larger fall or rise before it: a curve
    drawn with straight lines. Its later half need not lean then."""
    rise, whole = cut[-1].last - cut[-1].first, cut[-1].last - cut[0].first
    return abs(rise) > TOLERANCE and len(cut) > 1 and 0 < rise / whole < _TAIL_OF_WARMUP


def steady_start(cut: list[Stretch]) -> int | None:
    """The first bin of the steady state, or None where the end is not level or is too short."""
    end = cut[-1]
    if abs(end.last - end.first) > TOLERANCE:
        return None
    level, start = (end.first + end.last) / 2, end.start
    for stretch in reversed(cut[:-1]):
        if max(abs(stretch.first - level), abs(stretch.last - level)) > TOLERANCE:
            break
        start = stretch.start
    return start if end.stop - start >= SETTLED_SHARE * end.stop else None


def without_spikes(values: FloatArray) -> FloatArray:
    """Values with lone outliers replaced by the running median of five (Hampel's filter).

    Only to find where the run settles: no measured step is changed or left out for it.
    """
    padded = np.pad(values, 2, mode="reflect")
    medians = np.median(np.lib.stride_tricks.sliding_window_view(padded, 5), axis=1)
    limit = OUTLIER_MADS * _noise(values)
    lone = np.abs(values - medians) > limit
    lone[:2] = False
    return np.where(lone, medians, values)


def stretches(values: FloatArray) -> list[Stretch]:
    """``values`` cut into level and sloping stretches, as few as explain them.

    Least squares for every number of parameters (a level costs two with its cut, a slope three),
    then the number with the least ``n log(error² / n) + penalty``.
    """
    count = values.size
    centred = values - values.mean()
    levels, slopes = _squared_errors(centred)
    most = count // 2 + 1
    # best[p, j]: the least squared error of the first j values with p parameters.
    best = np.full((most + 1, count + 1), np.inf)
    cuts = np.zeros((most + 1, count + 1), dtype=np.intp)
    best[0, 0] = 0.0
    for parameters in range(_LEVEL, most + 1):
        ways = best[parameters - _LEVEL][:, None] + levels
        if parameters >= _SLOPE:
            ways = np.vstack([ways, best[parameters - _SLOPE][:, None] + slopes])
        cuts[parameters] = ways.argmin(axis=0)
        best[parameters] = ways.min(axis=0)
    spent = np.arange(most + 1)
    negligible = (TOLERANCE / 2) ** 2
    criterion = count * np.log(best[:, -1] / count + negligible) + _penalty(spent, count)
    return _traced(values, cuts, int(criterion.argmin()))


def _penalty(parameters: NDArray[np.intp], count: int) -> FloatArray:
    """As the Bayesian criterion's, but dearer, and dearer still where parameters are not few."""
    free = np.maximum(count - parameters, 1)
    return _PENALTY * math.log(count) * parameters * count / free


def _traced(values: FloatArray, cuts: NDArray[np.intp], parameters: int) -> list[Stretch]:
    """The stretches behind the best error, from the last to the first and turned round."""
    found, stop = [], values.size
    while stop > 0:
        choice = int(cuts[parameters, stop])
        sloping, start = divmod(choice, values.size + 1)
        part = values[start:stop]
        first = last = float(part.mean())
        if sloping:
            slope, middle = np.polyfit(np.arange(part.size) - (part.size - 1) / 2, part, 1)
            first, last = (middle + slope * (part.size - 1) / 2 * side for side in (-1, 1))
        found.append(Stretch(start, stop, float(first), float(last)))
        parameters, stop = parameters - (_SLOPE if sloping else _LEVEL), start
    return found[::-1]


def _squared_errors(values: FloatArray) -> tuple[FloatArray, FloatArray]:
    """For every [start, stop): squared error of the best level, and of the best straight line."""
    count = values.size
    place = np.arange(count, dtype=np.float64)
    sums = [
        np.concatenate([[0.0], np.cumsum(term)])
        for term in (values, values**2, place * values, place, place**2)
    ]
    total, squares, product, places, place_squares = (
        term[None, :] - term[:, None] for term in sums
    )
    length = np.arange(count + 1)[None, :] - np.arange(count + 1)[:, None]
    size = np.maximum(length, 1)
    level = np.maximum(squares - total**2 / size, 0.0)
    spread = np.maximum(place_squares - places**2 / size, 0.5)
    slope = np.maximum(level - (product - total * places / size) ** 2 / spread, 0.0)
    levels = np.where(length >= _LEVEL, level, np.inf)
    # The first step of many jobs is several times slower than the second: a stretch by itself.
    levels[0, 1] = 0.0
    return levels, np.where(length > _SLOPE, slope, np.inf)


def _noise(values: FloatArray) -> float:
    """Standard deviation from successive differences, blind to steps and slopes."""
    differences = np.diff(values)
    distance = np.abs(differences - np.median(differences))
    return MAD_TO_SIGMA * float(np.median(distance)) / math.sqrt(2)


def _past_slow_start(values: FloatArray, start: int) -> int:
    """``start``, moved past leading values that stand out from the settled ones by themselves.

    The first step of many jobs is several times slower than the second; alone it is no stretch.
    """
    settled = values[start:]
    centre = np.median(settled)
    spread = MAD_TO_SIGMA * float(np.median(np.abs(settled - centre)))
    beyond = np.abs(settled - centre) > max(TOLERANCE, OUTLIER_MADS * spread)
    return start + int(np.argmin(beyond))
