"""Replacements of several services on one another, taken away in any order."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from remora.checkpoint.ride.patches import Patches


class Owner:
    def method(self) -> str:
        return "own"


class Heir(Owner):
    pass


def around(mark: str) -> Callable[[Any], Any]:
    def make(original: Any) -> Any:
        return lambda *args: f"{mark}({original(*args)})"

    return make


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
@pytest.mark.parametrize("owner", [Owner, Heir])
def test_whatever_the_order_nothing_is_left(owner: type[Owner], order: tuple[int, ...]) -> None:
    before = dict(vars(owner))
    patches = [Patches() for _ in range(3)]
    for index, each in enumerate(patches):
        each.attribute(owner, "method", around(str(index)))
    assert owner().method() == "2(1(0(own)))"

    for index in order:
        patches[index].remove()
        patches[index].remove()

    assert dict(vars(owner)) == before


def test_what_somebody_else_put_there_stays() -> None:
    place = SimpleNamespace(function=len)
    patches = Patches()
    patches.attribute(place, "function", around("a"))
    place.function = max
    patches.remove()

    assert place.function is max
