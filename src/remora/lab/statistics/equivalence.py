"""Is the overhead within the margin? Two one-sided tests.

Schuirmann (1987), "A comparison of the two one-sided tests procedure and the power approach for
assessing the equivalence of average bioavailability", J. Pharmacokinet. Biopharm. 15.
"""

from __future__ import annotations

from remora.lab.statistics.arrays import log_margin
from remora.lab.statistics.pivot import Pivot


def equivalence_p(pivot: Pivot, margin: float) -> float:
    """p-value of the hypothesis that the ratio lies outside 1/(1 + margin) … 1 + margin.

    The larger of the two one-sided p-values; below 0.05 exactly when the 90 % interval lies
    within the margin.
    """
    bound = log_margin(margin)
    return max(pivot.p_above(-bound), pivot.p_below(bound))
