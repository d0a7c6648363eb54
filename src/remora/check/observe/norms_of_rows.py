"""Norms of an optimizer's gradients and parameters, where rows can be read of all of them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from remora.check.measures import GRADIENT_NORM, PARAMETER_NORM, UPDATE, ZERO_GRADIENTS, of
from remora.check.observation import GRADIENT, PARAMETER
from remora.check.observe.moment import Moment
from remora.check.observe.norms_of_each import parameters_of
from remora.check.observe.readings import Numbers
from remora.check.observe.rows import MOST_LAYOUTS, Layout, Row, Rows

if TYPE_CHECKING:
    from remora.check.observe.variables import Variables

_NOBODYS = ""


class NormsOfRows:
    """Measures the steps of one optimizer; valid while the variables are of one version."""

    def __init__(
        self, parameters: Rows, gradients: Rows, slots: frozenset[int], names: Mapping[int, str]
    ) -> None:
        self._parameters, self._gradients, self._slots = parameters, gradients, slots
        self._names = names
        """By slot, what the norm of the gradients of its module is called."""
        self._known: dict[int, tuple[_Places, Layout]] = {}

    def of_gradients(self, moment: Moment) -> Numbers | None:
        """None if they cannot be read in a row."""
        row = self._gradients.read(moment)
        if row is None or not row.layout.slots:
            return None
        places = self._places(row.layout)
        squares = places.own(self._gradients.squares(row, moment)).tolist()
        parameters = self._parameters.tensors(moment)
        trained = [parameters[slot] for slot in self._slots]
        count = sum([one is not None and one.requires_grad for one in trained])
        zero = count - len(squares) + squares.count(0.0)
        of_module = dict.fromkeys(places.modules, 0.0)
        for name, square in zip(places.modules, squares, strict=True):
            of_module[name] += square
        found = {name: math.sqrt(square) for name, square in of_module.items()}
        found.pop(_NOBODYS, None)
        found[GRADIENT_NORM] = math.sqrt(sum(squares))
        found[ZERO_GRADIENTS] = zero / max(count, 1)
        return found

    def parameters(self, moment: Moment) -> Row | None:
        return self._parameters.read(moment)

    def of_parameters(self, before: Row | None, moment: Moment) -> Numbers | None:
        """Their norm, and if it was read ``before`` how far they moved since, over that."""
        row = self._parameters.read(moment)
        if row is None:
            return None
        places = self._places(row.layout)
        norm = math.sqrt(places.of(row.squares).sum())
        found = {PARAMETER_NORM: norm}
        if norm and before is not None and before.layout is row.layout:
            found[UPDATE] = math.sqrt(places.of(row.moved(before)).sum()) / norm
        return found

    def _places(self, layout: Layout) -> _Places:
        known = self._known.get(id(layout))
        if known is None:
            if len(self._known) >= MOST_LAYOUTS:
                self._known.clear()
            known = self._known[id(layout)] = _Places(layout, self._slots, self._names), layout
        return known[0]


class _Places:
    """What of a row belongs to one optimizer."""

    def __init__(self, layout: Layout, slots: frozenset[int], names: Mapping[int, str]) -> None:
        own = [place for place, slot in enumerate(layout.slots) if slot in slots]
        self._own = np.array(own, np.intp) if len(own) < len(layout.slots) else None
        self._shares = layout.shares[own]
        self.modules = [names.get(layout.slots[place], _NOBODYS) for place in own]
        """By place, what the norm of its module is called."""

    def own(self, of_each: Any) -> Any:
        return of_each if self._own is None else of_each[self._own]

    def of(self, squares: Any) -> Any:
        """Sums over all elements, going by those over what was read."""
        return self.own(squares) * self._shares


def norms_of_rows(
    variables: Variables, optimizer: Any, modules: Mapping[int, str], moment: Moment
) -> NormsOfRows | None:
    """None unless all its parameters, and their gradients, are of one dtype in rows."""
    wanted = {id(one) for one in parameters_of(optimizer)}
    for rows in variables.rows(PARAMETER):
        slot_of = {id(one): slot for slot, one in enumerate(rows.tensors(moment))}
        if not wanted or not wanted <= slot_of.keys() or not rows.dtype.is_floating_point:
            continue
        slots = frozenset(slot_of[one] for one in wanted)
        names = {
            slot_of[one]: of(GRADIENT_NORM, modules[one]) for one in wanted if one in modules
        }  # fmt: skip
        same = [one for one in variables.rows(GRADIENT) if one.is_of(rows)]
        return NormsOfRows(rows, same[0], slots, names) if same else None
    return None
