"""Every way of drawing arrivals by name, with its options in one word: ``gamma:variation=3``."""

from __future__ import annotations

from collections.abc import Mapping

from remora.share.arrivals.contract import Arrivals
from remora.share.arrivals.gamma import Gamma
from remora.share.arrivals.markov import MarkovModulated
from remora.share.arrivals.poisson import Poisson
from remora.share.naming import read_named

ARRIVALS: Mapping[str, type[Arrivals]] = {
    each.name: each for each in (Poisson, Gamma, MarkovModulated)
}


def parse_arrivals(text: str) -> Arrivals:
    """The arrivals that ``text`` names, ``NAME`` or ``NAME:OPTION=VALUE,…``.

    Raises:
        UnknownName: no such arrivals or option.
        BadValue: an option without a value, or one that cannot be.
    """
    name, given = read_named("arrivals", text, ARRIVALS)
    return ARRIVALS[name](**given)
