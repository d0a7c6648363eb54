"""Read a call's inputs as properties by parameter name, however the caller passed them."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from remora.check.calls import NOTHING
from remora.check.values import properties

_PLAIN = (bool, int, float, str, type(None))
RESULT = "result"


class Inputs:
    """Reads what was asked for of one function's inputs.

    A function whose signature is not known has its positional inputs called ``0``, ``1``, ….
    Defaults that are plain values are read as if they had been passed.
    """

    def __init__(self, function: Any, wanted: frozenset[str]) -> None:
        names, defaults = _parameters(function)
        self._all = "*" in wanted
        roots = {one.partition(".")[0] for one in wanted}
        self._names = names
        self._defaults = {
            name: value for name, value in defaults.items() if self._all or name in roots
        }
        self._roots = roots
        self._nothing = not wanted

    def read(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Mapping[str, Any]:
        if self._nothing:
            return NOTHING
        found: dict[str, Any] = dict(self._defaults)
        names, known = self._names, len(self._names)
        for position, value in enumerate(args):
            name = names[position] if position < known else str(position)
            if self._all or name in self._roots:
                properties(name, value, found)
        for name, value in kwargs.items():
            if self._all or name in self._roots:
                properties(name, value, found)
        return found


class Outputs:
    """Reads what was asked for of one function's result, as ``result`` and below."""

    def __init__(self, wanted: frozenset[str]) -> None:
        self._nothing = not wanted

    def read(self, result: Any) -> Mapping[str, Any]:
        if self._nothing:
            return NOTHING
        found: dict[str, Any] = {}
        properties(RESULT, result, found)
        return found


def _parameters(function: Any) -> tuple[list[str], dict[str, Any]]:
    """Names of the positional parameters, and the defaults that are plain values."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return [], {}
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    parameters = signature.parameters.values()
    return (
        [one.name for one in parameters if one.kind in positional],
        {one.name: one.default for one in parameters if type(one.default) in _PLAIN},
    )
