"""What the statistics say of one arm against native: numbers and the verdict, no words."""

from __future__ import annotations

from dataclasses import dataclass

from remora.lab.results import Interval, Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """One arm. Below two blocks there is neither interval nor p-value."""

    blocks: int
    ratio: float | None
    """Geometric mean of the within-block ratios to native; None without any block."""
    interval: Interval | None
    p_value: float | None
    p_holm: float | None
    """That the ratio is 1, Holm-adjusted over the table."""
    p_outside: float | None
    """That the ratio lies outside the margin, Holm-adjusted over the table."""
    arms: int
    """Arms of the table that could be tested."""
    margin: float
    level: float
    floor: float | None
    """The noise floor, a share; None where native ran twice in fewer than two blocks."""
    verdict: Verdict
