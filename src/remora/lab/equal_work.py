"""Arms are compared only where they did the same work (rule 10)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from remora.lab.summary import Measured


@dataclass(frozen=True)
class EqualWork:
    """Whether two arms' outcomes agree, and in words how closely."""

    equal: bool
    words: str


def equal_work(pairs: Sequence[tuple[Measured, Measured]], tolerance: float) -> EqualWork:
    """Compare outcomes step by step, within blocks, as far as both trials went."""
    if not pairs:
        return EqualWork(True, "no block has both")
    worst, step, trial = 0.0, 0, ""
    for arm, native in pairs:
        difference, where = _largest_difference(arm.samples.values, native.samples.values)
        if difference > worst:
            worst, step, trial = difference, where, arm.id
    if worst > tolerance:
        return EqualWork(
            False,
            f"the outcome of step {step} in {trial} differs from native's by {worst:.2g}, "
            f"more than the tolerance of {tolerance:g}: the arms did not do equal work",
        )
    if worst == 0 and all(_same_digests(arm, native) for arm, native in pairs):
        return EqualWork(True, "identical")
    return EqualWork(True, f"within {max(worst, 1e-16):.1g}")


def _largest_difference(a: Sequence[float], b: Sequence[float]) -> tuple[float, int]:
    """The largest relative difference over the common steps, and its step. NaN equals NaN only."""
    worst, where = 0.0, 0
    for step, (x, y) in enumerate(zip(a, b, strict=False)):
        difference = _difference(x, y)
        if difference > worst:
            worst, where = difference, step
    return worst, where


def _difference(x: float, y: float) -> float:
    if x == y or (x != x and y != y):
        return 0.0
    scale = max(abs(x), abs(y))
    difference = abs(x - y) / scale
    return difference if difference == difference else float("inf")


def _same_digests(arm: Measured, native: Measured) -> bool:
    common = zip(arm.samples.digests, native.samples.digests, strict=False)
    return all(a == b for a, b in common)
