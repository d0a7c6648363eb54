"""The probe: every setting tried in a fair order, the smallest good one picked."""

from __future__ import annotations

import math

import pytest

from remora.checkpoint.policy import Probed, Setting, pick, probe
from remora.core.errors import BadValue

MIB = 2**20
SETTINGS = [Setting(t, c * MIB) for t in (1, 2) for c in (4, 8)]


def test_rounds_go_forth_and_back() -> None:
    log: list[Setting] = []

    def write(setting: Setting) -> float:
        log.append(setting)
        return 1e9

    probe(write, SETTINGS, rounds=3)
    assert log == [*SETTINGS, *reversed(SETTINGS), *SETTINGS]


def test_the_median_round_counts() -> None:
    # GIVEN one write in a burst, three times as fast as what lasts
    rates = iter([3e9, 1e9, 1.1e9])
    (only,) = probe(lambda setting: next(rates), SETTINGS[:1])
    assert only == Probed(SETTINGS[0], 1.1e9)


def test_a_disk_that_slows_down_favours_nobody() -> None:
    # GIVEN writes that get slower and slower, whatever the setting
    rates = iter([1e9 * 0.99**n for n in range(100)])
    probed = probe(lambda setting: next(rates), SETTINGS, rounds=4)
    # THEN all look alike and the smallest is taken
    assert pick(probed) == SETTINGS[0]


def test_the_smallest_within_five_percent_of_the_best() -> None:
    probed = [
        Probed(Setting(1, 4 * MIB), 0.94e9),
        Probed(Setting(1, 8 * MIB), 0.96e9),
        Probed(Setting(2, 4 * MIB), 1.00e9),
        Probed(Setting(4, 4 * MIB), 0.50e9),
    ]
    assert pick(probed) == Setting(1, 8 * MIB)
    assert pick(probed, within=0.0) == Setting(2, 4 * MIB)
    assert pick(probed, within=0.1) == Setting(1, 4 * MIB)


@pytest.mark.parametrize("rate", [0.0, -1.0, math.nan, math.inf], ids=str)
def test_a_rate_that_cannot_be_is_refused(rate: float) -> None:
    with pytest.raises(BadValue, match="positive rate"):
        probe(lambda setting: rate, SETTINGS)


def test_nothing_to_try_and_nothing_to_pick_from() -> None:
    with pytest.raises(BadValue, match="at least one"):
        probe(lambda setting: 1.0, [])
    with pytest.raises(BadValue, match="at least one"):
        probe(lambda setting: 1.0, SETTINGS, rounds=0)
    with pytest.raises(BadValue, match="no setting"):
        pick([])
