"""Occasions: what is told apart, what is forgotten, and what was always so."""

from __future__ import annotations

from typing import Any

from remora.check.conditions import Condition, Constant
from remora.check.examples import MOST_VALUES_OF_A_PROPERTY, Found, Occasions


def found(occasions: Occasions[str]) -> list[tuple[str, Condition]]:
    return [(one.thing, one.when) for one in occasions.found()]


def test_true_is_another_value_than_one() -> None:
    occasions: Occasions[str] = Occasions()
    for _ in range(3):
        occasions.add({"x": True}, {"thing"})
        occasions.add({"x": 1}, set())

    [(_, when)] = found(occasions)

    assert when.holds([{"x": True}])
    assert not when.holds([{"x": 1}])


def test_a_property_with_too_many_values_is_forgotten_of_earlier_occasions_too() -> None:
    occasions: Occasions[str] = Occasions()
    for _ in range(3):
        occasions.add({"x": 0, "phase": "train"}, {"thing"})
    for value in range(1, MOST_VALUES_OF_A_PROPERTY + 1):
        occasions.add({"x": value, "phase": "train"}, set())
    for _ in range(3):
        occasions.add({"x": 0, "phase": "train"}, set())

    assert found(occasions) == []  # with x = 0 it was there, and was not
    assert occasions.always("thing") == {"phase": ["train"]}


def test_what_was_forgotten_is_counted_on() -> None:
    occasions: Occasions[str] = Occasions()
    for value in range(30):
        phase = "train" if value % 2 else "eval"
        occasions.add({"x": value, "phase": phase}, {"thing"} if value % 2 else set())

    assert list(occasions.found()) == [
        Found("thing", Condition(any_of=((Constant("phase", ("train",)),),)), 15, 15)
    ]
    assert len(occasions.total) == 2


def test_sizes_and_identities_tell_nothing_apart() -> None:
    occasions: Occasions[str] = Occasions()
    told: dict[str, Any] = {"x.shape": (2,), "x.ndim": 1, "y.length": 3, "x.identity": (object(),)}
    for _ in range(3):
        occasions.add(told, {"thing"})
        occasions.add({}, set())

    assert found(occasions) == []


def test_always_tells_every_value_there_was() -> None:
    occasions: Occasions[str] = Occasions()
    occasions.add({"a": True, "b": "x", "c": 1}, {"thing"})
    occasions.add({"a": 1, "b": "x"}, {"thing"})
    occasions.add({"a": 2, "b": "y"}, set())

    assert occasions.always("thing") == {"a": [True, 1], "b": ["x"]}
