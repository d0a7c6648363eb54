"""The four verdicts over a table of arms: no cost, costs, gains, undecided.

Each arm is asked two questions. Is its ratio 1 (difference)? Does its ratio lie outside the margin
(equivalence)? Each family of questions is corrected by Holm over *all* arms of the table, a family
fixed before any data. Testing equivalence only in the arms not called different would let the data
choose the family: of six arms exactly at the margin, five are seen as different and the one that
chance brought low is then tested alone, at the full level.
"""

from __future__ import annotations

from collections.abc import Mapping

from remora.lab.results import Verdict
from remora.lab.statistics.arrays import Numbers, finite, log_margin, share
from remora.lab.statistics.equivalence import equivalence_p
from remora.lab.statistics.floor import noise_floor
from remora.lab.statistics.judgement import Judgement
from remora.lab.statistics.multiple import holm
from remora.lab.statistics.pivot import one_sample, ratio_interval
from remora.lab.statistics.ratios import mean_ratio


def judge_table(
    log_ratios_by_arm: Mapping[str, Numbers],
    again: Numbers,
    margin: float,
    level: float = 0.95,
    seed: int = 0,
) -> dict[str, Judgement]:
    """Judge every arm of a table.

    ``log_ratios_by_arm`` holds each arm's within-block log ratios to native (arms may lack
    blocks), ``again`` those of the A/A arm, which sets the noise floor and is not judged itself.
    ``margin`` is a share: overheads within ±margin count as no cost. A false cost or gain anywhere
    in the table has a chance of at most 1 − level, and so has a false "no cost".
    """
    log_margin(margin), share(level, "level")
    values = {name: finite(ratios, name) for name, ratios in log_ratios_by_arm.items()}
    pivots = [one_sample(arm, seed) if arm.size >= 2 else None for arm in values.values()]
    p_values = [pivot.p_two_sided() if pivot else None for pivot in pivots]
    p_holm = holm(p_values)
    p_outside = holm([equivalence_p(pivot, margin) if pivot else None for pivot in pivots])
    floor = noise_floor(again, level, seed)
    least = floor.floor if floor else None
    tested = sum(pivot is not None for pivot in pivots)
    return {
        name: Judgement(
            blocks=arm.size,
            ratio=mean_ratio(arm),
            interval=ratio_interval(pivot, level) if pivot else None,
            p_value=p_values[place],
            p_holm=p_holm[place],
            p_outside=p_outside[place],
            arms=tested,
            margin=margin,
            level=level,
            floor=least,
            verdict=decide(mean_ratio(arm), p_holm[place], p_outside[place], least, level),
        )
        for place, ((name, arm), pivot) in enumerate(zip(values.items(), pivots, strict=True))
    }


def judge(
    log_ratios: Numbers, again: Numbers, margin: float, level: float = 0.95, seed: int = 0
) -> Judgement:
    """Judge an arm that is alone in its table."""
    return judge_table({"arm": log_ratios}, again, margin, level, seed)["arm"]


def decide(
    ratio: float | None,
    p_holm: float | None,
    p_outside: float | None,
    floor: float | None,
    level: float = 0.95,
) -> Verdict:
    """The verdict, from Holm-adjusted p-values.

    Equivalence comes first: a difference that is real and yet lies wholly within the margin is no
    cost worth the name. A difference is claimed only above the noise floor; without a floor
    (native ran twice in fewer than two blocks) none is.
    """
    alpha = 1 - level
    if ratio is None or p_holm is None or p_outside is None:
        return "undecided"
    if p_outside < alpha:
        return "no cost"
    if p_holm < alpha and floor is not None and abs(ratio - 1) > floor:
        return "costs" if ratio > 1 else "gains"
    return "undecided"
