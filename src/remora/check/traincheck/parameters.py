"""Names of a function's parameters, where the function is loaded."""

from __future__ import annotations

from remora.check.observe.parameters import parameters_of
from remora.core.errors import UserError
from remora.tap.names import Place, find


def parameter_names(function: str) -> tuple[str, ...]:
    """Of its positional parameters, in order; empty where nothing is known of them.

    Nothing is imported: only what the process has loaded already is asked.
    """
    try:
        place = find(function)
    except UserError:
        return ()
    return _names(place) if isinstance(place, Place) else ()


def _names(place: Place) -> tuple[str, ...]:
    raw = place.raw
    function = raw.__func__ if isinstance(raw, staticmethod | classmethod) else raw
    return tuple(parameters_of(function)[0])
