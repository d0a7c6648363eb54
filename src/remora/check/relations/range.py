"""Range: a number measured at calls stays within bounds, which leave room beyond what was seen.

The numbers are norms of gradients, parameters and updates, learning rates, losses, the scale of a
GradScaler (:mod:`remora.check.measures`). They are held against bounds in powers of ten, since
that is how they go wrong: a loss that is summed instead of averaged, gradients that were not
unscaled, a layer without any. Another seed or batch size moves them by a factor of two.

Learned from: :data:`FEWEST_NUMBERS` values or more. The bounds are the powers of ten at least half
a decade above the largest and one and a half below the smallest (:data:`ABOVE`, :data:`BELOW`),
since gradients and learning rates fall as a run goes on; of one module's gradients, which vary more
than all together, at least a whole decade above; of a share, the next quarter at least a
quarter above. Each is kept only if in every run the second half goes no further than half a decade
(:data:`DRIFT`) beyond the first: what drifts has none. Losses and shares have no lower bound, and
the scale of a GradScaler has no upper one, since it may double for as long as a run goes on. The
first steps are left out where they lie beyond, and the condition then says ``warm_up is False``.

How large a norm is says nothing of another program. Therefore the condition names how many elements
the parameters of the optimizer have.

Checked: at every call that meets the condition, where the number is there. NaN is in no range.

Not among TrainCheck's relations.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from remora.check.calls import Call
from remora.check.conditions import Clause, Condition, Constant
from remora.check.measures import (
    AMOUNTS,
    ELEMENTS,
    GRADIENT_NORM,
    LOSS,
    SCALE,
    ZERO_GRADIENTS,
    kind_of,
    loss_of,
)
from remora.check.observe.context import WARM_UP
from remora.check.relations.contract import ALL, Claim, Learned, Learner
from remora.check.relations.each_number import EachNumber
from remora.check.relations.series import Series

FEWEST_NUMBERS = 16
ABOVE, BELOW, DRIFT = 10**0.5, 10**1.5, 10**0.5
ABOVE_IN_A_MODULE = 10.0
_QUARTER = 0.25


class Range(Claim, frozen=True, tag="range", omit_defaults=True):
    """``number`` at calls of ``function`` is not below ``low`` nor above ``high``."""

    function: str
    number: str
    low: float | None = None
    high: float | None = None

    def words(self) -> str:
        bounds = " and ".join(
            f"{which} {bound:g}"
            for which, bound in (("at least", self.low), ("at most", self.high))
            if bound is not None
        )
        return f"{self.number} at {self.function} is {bounds}"

    def functions(self) -> tuple[str, ...]:
        loss = loss_of(self.number)
        return (self.function,) if loss is None else (self.function, loss)

    def subject(self) -> tuple[str, str]:
        return self.function, self.number

    def joined(self, other: Range) -> Range | None:
        """With the wider bounds; a side on which one of them has none has none."""
        lows, highs = (self.low, other.low), (self.high, other.high)
        low = None if None in lows else min(lows)  # type: ignore[type-var]
        high = None if None in highs else max(highs)  # type: ignore[type-var]
        return None if low is high is None else Range(self.function, self.number, low, high)

    def holds(self, value: float) -> bool:
        above = self.low is None or value >= self.low
        return above and (self.high is None or value <= self.high) and not math.isnan(value)


class _Subject(NamedTuple):
    function: str
    number: str
    elements: int | None
    """Of the optimizer's parameters; None at calls on something else."""


class RangeLearner(Learner):
    """Keeps the extremes of each number, run by run, apart from those of the warm-up."""

    def __init__(self) -> None:
        self._run = 0
        self._settled: dict[_Subject, dict[int, Series]] = defaultdict(dict)
        self._warm_up: dict[_Subject, dict[int, Series]] = defaultdict(dict)

    def measures(self, function: str) -> frozenset[str]:
        return ALL if function in AMOUNTS else frozenset()

    def measured(self, call: Call, numbers: Mapping[str, float]) -> None:
        kinds = AMOUNTS.get(call.function, ())
        known = self._warm_up if call.context.get(WARM_UP) else self._settled
        for name, value in numbers.items():
            if kind_of(name) in kinds:
                subject = _Subject(call.function, name, call.inputs.get(ELEMENTS))
                known[subject].setdefault(self._run, Series()).add(value)

    def run_ended(self) -> None:
        self._run += 1

    def learned(self, fewest: int) -> Iterator[Learned]:
        for subject, by_run in self._settled.items():
            runs = list(by_run.values())
            support = sum(one.count for one in runs)
            if support < max(fewest, FEWEST_NUMBERS) or not all(one.finite for one in runs):
                continue
            claim = _claim(subject, runs)
            if claim.low is None and claim.high is None:
                continue
            early = self._warm_up.get(subject, {}).values()
            keeps = all(_holds(claim, one) for one in early)
            if keeps:
                support += sum(one.count for one in early)
            yield Learned(claim, _condition(subject, always=keeps), support=support)


def _claim(subject: _Subject, runs: Sequence[Series]) -> Range:
    kind = kind_of(subject.number)
    lower = kind not in (LOSS, ZERO_GRADIENTS) and all(_low_lasts(one) for one in runs)
    upper = kind != SCALE and all(_high_lasts(kind, one) for one in runs)
    return Range(
        subject.function,
        subject.number,
        _low(min(one.low for one in runs)) if lower else None,
        _high(subject.number, max(one.high for one in runs)) if upper else None,
    )


def _low_lasts(series: Series) -> bool:
    first, rest = series.halves()
    return series.count == 1 or rest.low >= first.low / DRIFT


def _high_lasts(kind: str, series: Series) -> bool:
    first, rest = series.halves()
    most = first.high + _QUARTER if kind == ZERO_GRADIENTS else first.high * DRIFT
    return series.count == 1 or rest.high <= most


def _low(value: float) -> float | None:
    """None where there is no bound above zero."""
    return _power(math.floor(math.log10(value / BELOW))) if 0 < value < math.inf else None


def _high(number: str, value: float) -> float | None:
    """None where anything is possible, or nothing was seen."""
    kind = kind_of(number)
    if kind == ZERO_GRADIENTS and math.isfinite(value):
        high = math.ceil((value + _QUARTER) / _QUARTER) * _QUARTER
        return high if high < 1 else None
    above = ABOVE_IN_A_MODULE if number != kind == GRADIENT_NORM else ABOVE
    return _power(math.ceil(math.log10(value * above))) if 0 < value < math.inf else None


def _power(exponent: int) -> float:
    return float(f"1e{exponent}")


def _holds(claim: Range, series: Series) -> bool:
    return series.finite and claim.holds(series.low) and claim.holds(series.high)


def _condition(subject: _Subject, *, always: bool) -> Condition:
    clauses: Iterable[Clause] = (
        Constant(name, (value,))
        for name, value in ((ELEMENTS, subject.elements), (WARM_UP, None if always else False))
        if value is not None
    )
    return Condition(any_of=(tuple(clauses),))


# ---------------------------------------------------------------- checking


class RangeMachine(EachNumber):
    claims = Range

    @staticmethod
    def number(claim: Range) -> str:
        return claim.number

    @staticmethod
    def bounds(claim: Range) -> tuple[float, float]:
        low = -math.inf if claim.low is None else claim.low
        return low, math.inf if claim.high is None else claim.high

    @staticmethod
    def seen(value: float) -> str:
        return f"it is {value:.3g}"
