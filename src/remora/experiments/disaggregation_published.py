"""What is published of disaggregation (Genie/Djinn, expected on an A100), what is aimed at here,
and whether a measured interval holds to either."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from remora.experiments.disaggregation_rows import FULL, LOCAL_REMOTE, NAIVE

LOCAL = "native"
Kind = Literal["speed", "traffic", "token bytes"]


@dataclass(frozen=True)
class Claim:
    """``row`` against ``base`` on the workloads whose name ends like ``workload``.

    ``speed`` is how many times faster it is, ``traffic`` how many times fewer bytes cross in a
    step, ``token bytes`` how many cross for a token; all but the last are better when larger.
    """

    workload: str
    kind: Kind
    row: str
    base: str
    low: float | None
    high: float | None
    """The published range."""
    aim: float | None = None

    @property
    def words(self) -> str:
        if self.kind == "token bytes":
            return f"bytes a token, {self.row}"
        quantity = "speed" if self.kind == "speed" else "fewer bytes"
        return f"{quantity}, {self.row} × {'local' if self.base == LOCAL else self.base}"


_WORKLOADS = ("-decode", "-prefill", "resnet50-forward", "clip-vit-b32-forward")
_TABLE: tuple[tuple[Kind, str, str, tuple[tuple[float, float], ...], tuple[float | None, ...]], ...]
_TABLE = (
    ("speed", FULL, LOCAL, ((0.7, 0.9), (0.8, 0.95), (0.85, 0.95), (0.75, 0.9)), (0.95,) * 4),
    ("speed", LOCAL_REMOTE, LOCAL, ((0.4, 0.6), (0.5, 0.7), (0.6, 0.8), (0.5, 0.7)), (None,) * 4),
    ("speed", NAIVE, LOCAL, ((0.1, 0.3), (0.2, 0.4), (0.3, 0.5), (0.2, 0.4)), (None,) * 4),
    ("speed", FULL, NAIVE, ((3, 5), (2, 3), (2, 3), (3, 4)), (20.0, None, None, None)),
    ("speed", LOCAL_REMOTE, NAIVE, ((1.5, 2), (1.3, 1.8), (1.5, 2), (1.5, 2)), (None,) * 4),
    ("traffic", FULL, NAIVE, ((10, 15), (5, 8), (3, 5), (8, 12)), (1000.0, 50.0, 50.0, 50.0)),
)
CLAIMS = (
    *(
        Claim(workload, kind, row, base, ranges[place][0], ranges[place][1], aims[place])
        for kind, row, base, ranges, aims in _TABLE
        for place, workload in enumerate(_WORKLOADS)
    ),
    Claim("-decode", "token bytes", FULL, LOCAL, 201_000, 201_000, 100),
    Claim("-decode", "speed", f"{FULL}@1gbit-1ms", LOCAL, None, None, round(1 / 1.15, 3)),
    Claim("-decode", "speed", f"{FULL}@1gbit-1ms", f"{NAIVE}@1gbit-1ms", None, None, 20.0),
)
"""By Genie's benchmark suite; its "no semantics" keeps weights and knows nothing else, as our
local-remote does. The bytes are those that a Djinn that sends logits back was measured at."""


def against_range(claim: Claim, low: float | None, high: float | None) -> str:
    """Where an interval lies to the published range, in a word or two."""
    if claim.low is None or claim.high is None:
        return "nothing published"
    if low is None or high is None:
        return "undecided"
    if low > claim.high:
        return "above it"
    if high < claim.low:
        return "below it"
    if low >= claim.low:
        return "within it" if high <= claim.high else "within it or above"
    return "within it or below" if high <= claim.high else "undecided"


def against_aim(claim: Claim, low: float | None, high: float | None) -> str:
    """Whether an interval reaches what is aimed at."""
    if claim.aim is None:
        return "no aim"
    if low is None or high is None:
        return "undecided"
    if claim.kind == "token bytes":
        low, high, aim = -high, -low, -claim.aim
    else:
        aim = claim.aim
    return "reached" if low >= aim else "missed" if high < aim else "undecided"
