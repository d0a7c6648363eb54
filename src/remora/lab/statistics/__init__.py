"""What may be said of measured times: pure functions on arrays, checked by simulation.

Trials are the unit throughout: a trial's steps are summarised before anything is tested. The
order is describe, warm-up, ratios, floor, verdict, wording; planning proposes blocks, comparison
sets two results side by side. docs/statistics.md has the method and its simulated error rates.
"""

from remora.lab.statistics.comparison import Change, Difference, compare, compare_table
from remora.lab.statistics.describe import outliers, spread
from remora.lab.statistics.effect import cliffs_delta, hedges_g
from remora.lab.statistics.floor import Floor, noise_floor
from remora.lab.statistics.judgement import Judgement
from remora.lab.statistics.multiple import holm
from remora.lab.statistics.planning import (
    blocks_for_no_cost,
    blocks_needed,
    blocks_to_tell,
    minimum_detectable_effect,
    planning_sd,
    power,
    power_of_no_cost,
)
from remora.lab.statistics.ratios import (
    log_ratios,
    mean_interval,
    mean_ratio,
    p_value,
    recovered,
)
from remora.lab.statistics.tails import tail
from remora.lab.statistics.verdict import decide, judge, judge_table
from remora.lab.statistics.warmup import settled_from
from remora.lab.statistics.wording import sentence

__all__ = [
    "Change",
    "Difference",
    "Floor",
    "Judgement",
    "blocks_for_no_cost",
    "blocks_needed",
    "blocks_to_tell",
    "cliffs_delta",
    "compare",
    "compare_table",
    "decide",
    "hedges_g",
    "holm",
    "judge",
    "judge_table",
    "log_ratios",
    "mean_interval",
    "mean_ratio",
    "minimum_detectable_effect",
    "noise_floor",
    "outliers",
    "p_value",
    "planning_sd",
    "power",
    "power_of_no_cost",
    "recovered",
    "sentence",
    "settled_from",
    "spread",
    "tail",
]
