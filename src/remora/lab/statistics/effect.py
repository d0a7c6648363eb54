"""How large a difference is, next to how much trials differ anyway."""

from __future__ import annotations

import math

import numpy as np
from scipy import special

from remora.lab.statistics.arrays import Numbers, finite, positive


def cliffs_delta(arm: Numbers, native: Numbers) -> float | None:
    """P(arm > native) − P(arm < native) over all pairs of trials, from −1 to 1.

    None where an arm has no trial. Unpaired. Cliff (1993), "Dominance statistics: ordinal analyses
    to answer ordinal questions", Psychological Bulletin 114.
    """
    above, below = finite(arm, "arm"), np.sort(finite(native, "native"))
    if not above.size or not below.size:
        return None
    larger = np.searchsorted(below, above, side="left").sum()
    smaller = below.size * above.size - np.searchsorted(below, above, side="right").sum()
    return float(larger - smaller) / (above.size * below.size)


def hedges_g(arm: Numbers, native: Numbers) -> float | None:
    """Standardised difference of the mean log trial summaries, corrected for small samples.

    Unpaired: the unit is the pooled standard deviation of trials *within* an arm, so that g tells
    the overhead in units of how much two runs of the same thing differ. None below two trials an
    arm or without variance. Hedges (1981), "Distribution theory for Glass's estimator of effect
    size", J. Educ. Stat. 6, equation 6e (the exact correction).
    """
    above, below = np.log(positive(arm, "arm")), np.log(positive(native, "native"))
    if min(above.size, below.size) < 2:
        return None
    freedom = above.size + below.size - 2
    squares = above.var(ddof=1) * (above.size - 1) + below.var(ddof=1) * (below.size - 1)
    pooled = math.sqrt(float(squares) / freedom)
    if pooled <= 1e-12:
        return None
    correction = math.exp(special.gammaln(freedom / 2) - special.gammaln((freedom - 1) / 2))
    correction /= math.sqrt(freedom / 2)
    return correction * float(above.mean() - below.mean()) / pooled
