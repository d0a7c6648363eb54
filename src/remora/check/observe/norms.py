"""Norms of an optimizer's gradients and parameters, and of what its step adds to them.

Of large parameters the norm is estimated from some of their elements: that is within a few per cent
where elements are many. Of large gradients all are read, where rows can be read of them. A model
with parameters that are no plain tensors (sparse, sharded, lazy), or a sparse gradient, is not
measured.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from remora.check.measures import GRADIENT_NORM, PARAMETER_NORM, UPDATE, ZERO_GRADIENTS
from remora.check.observe.moment import Moment
from remora.check.observe.norms_of_each import NormsOfEach
from remora.check.observe.norms_of_rows import NormsOfRows, norms_of_rows
from remora.check.observe.readings import Readings
from remora.check.observe.rows import Row

if TYPE_CHECKING:
    from remora.check.observe.variables import Variables

_without_warnings = np.errstate(over="ignore", invalid="ignore")
"""What is looked for may be infinite, or no number."""


class Norms:
    """Measures the steps of one optimizer after another: in rows where there are, else one by one.

    Args:
        wanted: whether a number is, by its name.
        modules: of an optimizer, by the id of a parameter, the name of the module it belongs to.
    """

    def __init__(
        self,
        variables: Variables,
        wanted: Callable[[str], bool],
        modules: Callable[[Any], Mapping[int, str]] | None,
    ) -> None:
        self._variables, self._modules = variables, modules
        self._gradients = wanted(GRADIENT_NORM) or wanted(ZERO_GRADIENTS) or modules is not None
        self._norm, self._update = wanted(PARAMETER_NORM), wanted(UPDATE)
        self._of_each = NormsOfEach()
        self._of_rows: weakref.WeakKeyDictionary[Any, tuple[int, NormsOfRows | None]] = (
            weakref.WeakKeyDictionary()
        )

    @_without_warnings
    def before(self, optimizer: Any, moment: Moment) -> tuple[Readings, Any]:
        """The gradients as they are; and what the parameters were, to be told from after it."""
        if moment.get(self._variables) is not optimizer:
            self._variables.meet(optimizer)
        in_rows = self._rows_of(optimizer, moment)
        readings: Readings = []
        if self._gradients:
            numbers = in_rows.of_gradients(moment) if in_rows is not None else None
            readings = [numbers] if numbers is not None else self._of_gradients(optimizer)
        if not self._update:
            return readings, None
        row = in_rows.parameters(moment) if in_rows is not None else None
        return readings, row if row is not None else self._of_each.parameters(optimizer)

    @_without_warnings
    def after(self, optimizer: Any, before: Any, moment: Moment) -> Readings:
        if not (self._norm or self._update):
            return []
        in_rows = self._rows_of(optimizer, moment)
        row, before = (before, None) if isinstance(before, Row) else (None, before)
        numbers = in_rows.of_parameters(row, moment) if in_rows is not None else None
        if numbers is not None:
            return [numbers]
        return self._of_each.of_parameters(optimizer, before, norm=self._norm)

    def _of_gradients(self, optimizer: Any) -> Readings:
        return self._of_each.of_gradients(optimizer, self._modules_of(optimizer))

    def _modules_of(self, optimizer: Any) -> Mapping[int, str]:
        return self._modules(optimizer) if self._modules is not None else {}

    def _rows_of(self, optimizer: Any, moment: Moment) -> NormsOfRows | None:
        variables = self._variables
        known = self._of_rows.get(optimizer)
        if known is None or known[0] != variables.version:
            found = norms_of_rows(variables, optimizer, self._modules_of(optimizer), moment)
            known = self._of_rows[optimizer] = variables.version, found
        return known[1]
