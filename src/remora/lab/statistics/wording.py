"""A judgement in words, with its numbers."""

from __future__ import annotations

from remora.lab.results import Interval
from remora.lab.statistics.judgement import Judgement


def sentence(judgement: Judgement, blocks_wanted: int | None = None) -> str:
    """The verdict as a report prints it.

    ``blocks_wanted`` is how many blocks would tell a cost of the margin's size
    (:func:`remora.lab.statistics.planning.blocks_to_tell`); the undecided name it where it is more
    than they have.

    For example ``costs 12.4 % (95 % interval 10.1 to 14.8 %; noise floor 2.0 %)`` or
    ``undecided: −0.5 to 3.9 %; 14 blocks would tell a cost of 2 %``.
    """
    ratio, interval = judgement.ratio, judgement.interval
    if ratio is None or interval is None:
        return _without_interval(judgement)
    if judgement.verdict == "no cost":
        within = _round(judgement.margin)
        return f"no cost within ±{within} %: {_percent(ratio - 1)} % ({_evidence(judgement)})"
    if judgement.verdict in ("costs", "gains"):
        size = _percent(abs(ratio - 1))
        return f"{judgement.verdict} {size} % ({_evidence(judgement)})"
    return f"undecided: {_undecided(judgement, ratio, interval)}{_remedy(judgement, blocks_wanted)}"


def _without_interval(judgement: Judgement) -> str:
    if judgement.ratio is None:
        return "undecided: no block holds both this arm and native"
    estimate = _percent(judgement.ratio - 1)
    return f"undecided: {estimate} % in a single block; an interval needs two"


def _evidence(judgement: Judgement) -> str:
    """Interval and floor; of a gain the bounds are turned round, as its estimate is."""
    interval = judgement.interval
    if interval is None:
        return "no interval"
    low, high = interval.low - 1, interval.high - 1
    if judgement.verdict == "gains":
        low, high = -high, -low
    bounds = f"{_round(interval.level)} % interval {_percent(low)} to {_percent(high)} %"
    if judgement.floor is None:
        return bounds
    return f"{bounds}; noise floor {_percent(judgement.floor)} %"


def _undecided(judgement: Judgement, ratio: float, interval: Interval) -> str:
    bounds = f"{_percent(interval.low - 1)} to {_percent(interval.high - 1)} %"
    alpha = 1 - judgement.level
    if judgement.p_value is None or judgement.p_holm is None or judgement.p_value >= alpha:
        return bounds
    if judgement.p_holm >= alpha:
        doubt = f"not beyond chance among {judgement.arms} arms"
        return f"{bounds}, {doubt}"
    estimate = _percent(ratio - 1)
    if judgement.floor is None:
        return f"{estimate} % ({bounds}), but native ran twice in fewer than two blocks"
    return f"{estimate} % ({bounds}) is not above the noise floor of {_percent(judgement.floor)} %"


def _remedy(judgement: Judgement, blocks_wanted: int | None) -> str:
    if blocks_wanted is None or blocks_wanted <= judgement.blocks:
        return ""
    return f"; {blocks_wanted:,} blocks would tell a cost of {_round(judgement.margin)} %"


def _percent(share: float) -> str:
    """One decimal; two below 0.1 %, none from 100 %. A true minus sign, and no minus zero."""
    percent = 100 * share
    size = abs(percent)
    digits = 2 if size < 0.095 else 1 if size < 99.95 else 0
    text = f"{size:,.{digits}f}"
    if digits == 2 and float(text) == 0:
        text = "0.0"
    return f"−{text}" if percent < 0 and float(text.replace(",", "")) else text


def _round(share: float) -> str:
    return f"{100 * share:.4g}"
