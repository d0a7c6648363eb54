"""Keys lie evenly over servers, and only those move that must."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remora.remote.fleet.ring import order

NAMES = st.lists(st.text(max_size=8), min_size=1, max_size=12, unique=True)
KEYS = [f"key {index}" for index in range(2000)]


@given(st.text(), NAMES)
def test_every_server_comes_once_whatever_order_they_are_told_in(
    key: str, names: list[str]
) -> None:
    ordered = order(key, names)

    assert sorted(ordered) == sorted(names)
    assert ordered == order(key, reversed(names))


@given(st.text(), NAMES, st.data())
def test_without_one_server_the_others_stay_in_their_order(
    key: str, names: list[str], data: st.DataObject
) -> None:
    gone = data.draw(st.sampled_from(names))
    left = [name for name in names if name != gone]

    assert order(key, left) == [name for name in order(key, names) if name != gone]


@pytest.mark.parametrize("count", [2, 3, 7, 20])
def test_keys_lie_evenly(count: int) -> None:
    names = [f"server-{index}" for index in range(count)]
    owners = Counter(order(key, names)[0] for key in KEYS)

    fair = len(KEYS) / count
    deviation = (fair * (1 - 1 / count)) ** 0.5
    assert all(abs(owners[name] - fair) < 4 * deviation for name in names)


@pytest.mark.parametrize("count", [3, 7, 20])
def test_the_keys_of_a_lost_server_spread_over_all_others(count: int) -> None:
    names = [f"server-{index}" for index in range(count)]
    moved = Counter(order(key, names)[1] for key in KEYS if order(key, names)[0] == "server-1")

    fair = sum(moved.values()) / (count - 1)
    assert all(abs(moved[name] - fair) < 4 * fair**0.5 for name in names if name != "server-1")


def test_a_key_is_on_the_same_server_for_every_program() -> None:
    names = ["server-0", "server-1", "server-2", "server-3"]
    assert "".join(order(key, names)[0][-1] for key in "abcdefgh") == "31100121"
