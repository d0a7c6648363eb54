"""Amounts that are there to be read: learning rates, losses, the scale of a GradScaler."""

from __future__ import annotations

from collections.abc import Callable, Collection, MutableMapping
from typing import Any

from remora.check.measures import LEARNING_RATE, LOSS, SCALE, of
from remora.check.observe.moment import Moment
from remora.check.observe.readings import Reading, Readings, plain


class Rates:
    """The learning rate of each group of an optimizer, as its step begins."""

    def __init__(self) -> None:
        self._names: list[str] = []

    def before(self, optimizer: Any, moment: Moment) -> tuple[Readings, Any]:
        found: Readings = []
        for place, group in enumerate(optimizer.param_groups):
            if place == len(self._names):
                self._names.append(of(LEARNING_RATE, f"group {place}"))
            rate = group.get("lr")
            if type(rate) is not float:
                rate = plain(rate)
            if rate is not None:
                found.append(_one(self._names[place], rate))
        return found, None

    def after(self, optimizer: Any, before: Any, moment: Moment) -> Readings:
        return []


class Losses:
    """The last loss that each function returned before a step.

    Args:
        kept: by function, that loss; taken out once it is told.
        functions: those whose losses are wanted.
    """

    def __init__(self, kept: MutableMapping[str, Any], functions: Collection[str]) -> None:
        self._kept = kept
        self._named = [(name, of(LOSS, name)) for name in sorted(functions)]

    def before(self, optimizer: Any, moment: Moment) -> tuple[Readings, Any]:
        found: Readings = []
        for function, name in self._named:
            if (loss := self._kept.pop(function, None)) is not None:
                found.append(_one(name, loss))
        return found, None

    def after(self, optimizer: Any, before: Any, moment: Moment) -> Readings:
        return []


class Scale:
    """The scale of a GradScaler after it has been updated."""

    def before(self, scaler: Any, moment: Moment) -> tuple[Readings, Any]:
        return [], None

    def after(self, scaler: Any, before: Any, moment: Moment) -> Readings:
        scale = getattr(scaler, "_scale", None)
        return [_one(SCALE, plain(scale))] if scale is not None else []


def _one(name: str, amount: Any) -> Reading | dict[str, float]:
    if type(amount) in (int, float):
        return {name: float(amount)}
    return Reading(amount.detach().reshape(1), _named(name))


def _named(name: str) -> Callable[[Any], dict[str, float]]:
    return lambda values: {name: values[0]}
