"""How many threads and how large a chunk: tried out, and the smallest of the good ones taken."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from remora.checkpoint.policy.records import Setting
from remora.core.errors import BadValue

Write = Callable[[Setting], float]
"""Writes a checkpoint's worth with that many threads and such chunks until it is durable; returns
bytes per second."""

MIB = 2**20
SETTINGS = tuple(Setting(t, c * MIB) for t in (1, 2, 4) for c in (2, 4, 8, 16))
"""What is tried. Beyond 4 threads and 16 MiB nothing was seen to gain with direct I/O."""
WITHIN = 0.05
"""A setting this close to the best is as good: fewer threads and less memory are worth more."""


@dataclass(frozen=True)
class Probed:
    """What one setting reached."""

    setting: Setting
    bytes_s: float


def probe(
    write: Write, settings: Sequence[Setting] = SETTINGS, *, rounds: int = 3
) -> tuple[Probed, ...]:
    """Try every setting once a round; the median round counts.

    Rounds go forth and back through the settings, so that a disk that slows down meanwhile (as it
    does when its cache is full) does not favour those that came first.

    Raises:
        BadValue: nothing to try, or ``write`` returned no positive number.
    """
    if not settings or rounds < 1:
        raise BadValue(f"{len(settings)} settings in {rounds} rounds: try at least one, once")
    seen: dict[Setting, list[float]] = {setting: [] for setting in settings}
    for turn in range(rounds):
        for setting in settings if turn % 2 == 0 else reversed(settings):
            seen[setting].append(_checked(write(setting), setting))
    return tuple(Probed(setting, statistics.median(rates)) for setting, rates in seen.items())


def pick(probed: Sequence[Probed], *, within: float = WITHIN) -> Setting:
    """The fewest threads, then the smallest chunk, of those within ``within`` of the fastest.

    Raises:
        BadValue: there is nothing to pick from.
    """
    if not probed:
        raise BadValue("no setting was probed; give pick() what probe() returned")
    enough = max(each.bytes_s for each in probed) * (1 - within)
    good = [each.setting for each in probed if each.bytes_s >= enough]
    return min(good, key=lambda setting: (setting.threads, setting.chunk_bytes))


def _checked(bytes_s: float, setting: Setting) -> float:
    if not 0 < bytes_s < math.inf:
        raise BadValue(f"{setting} wrote at {bytes_s!r} bytes/s; return a positive rate")
    return bytes_s
