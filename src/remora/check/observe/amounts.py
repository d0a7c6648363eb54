"""Amounts that are there to be read: learning rates, losses, the scale of a GradScaler."""

from __future__ import annotations

from collections.abc import Callable, Collection, MutableMapping
from typing import Any

from remora.check.measures import LEARNING_RATE, LOSS, SCALE, of
from remora.check.observe.readings import Reading, plain


class Rates:
    """The learning rate of each group of an optimizer, as its step begins."""

    def before(self, optimizer: Any, moment: object) -> tuple[list[Reading], Any]:
        found = []
        for place, group in enumerate(optimizer.param_groups):
            rate = plain(group.get("lr"))
            if rate is not None:
                found.append(_one(of(LEARNING_RATE, f"group {place}"), rate))
        return found, None

    def after(self, optimizer: Any, before: Any, moment: object) -> list[Reading]:
        return []


class Losses:
    """The last loss that each function returned before a step.

    Args:
        kept: by function, that loss; taken out once it is told.
        functions: those whose losses are wanted.
    """

    def __init__(self, kept: MutableMapping[str, Any], functions: Collection[str]) -> None:
        self._kept, self._functions = kept, sorted(functions)

    def before(self, optimizer: Any, moment: object) -> tuple[list[Reading], Any]:
        taken = [(name, self._kept.pop(name, None)) for name in self._functions]
        return [_one(of(LOSS, name), plain(loss)) for name, loss in taken if loss is not None], None

    def after(self, optimizer: Any, before: Any, moment: object) -> list[Reading]:
        return []


class Scale:
    """The scale of a GradScaler after it has been updated."""

    def before(self, scaler: Any, moment: object) -> tuple[list[Reading], Any]:
        return [], None

    def after(self, scaler: Any, before: Any, moment: object) -> list[Reading]:
        scale = getattr(scaler, "_scale", None)
        return [_one(SCALE, plain(scale))] if scale is not None else []


def _one(name: str, amount: Any) -> Reading:
    values = [float(amount)] if type(amount) in (int, float) else amount.detach().reshape(1)
    return Reading(values, _named(name))


def _named(name: str) -> Callable[[Any], dict[str, float]]:
    return lambda values: {name: values[0]}
