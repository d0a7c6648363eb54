"""Read a call's inputs as properties by parameter name, however the caller passed them."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from math import inf
from typing import Any

from remora.check.calls import NOTHING
from remora.check.conditions import ABSENT
from remora.check.observe.selecting import ALL, everything, readers
from remora.check.values import is_torch_constant, properties

_PLAIN = (bool, int, float, str, type(None))
RESULT = "result"
DIGEST = f"{RESULT}.digest"


class Inputs:
    """Reads what was asked for of one function's inputs.

    A function whose signature is not known has its positional inputs called ``0``, ``1``, ….
    Defaults that are plain values are read as if they had been passed.
    """

    def __init__(self, function: Any, wanted: frozenset[str]) -> None:
        self._names, self._defaults = _parameters(function)
        self._all, self._nothing = ALL in wanted, not wanted
        self._wanted = [
            (self._position(name), name, read, self._defaults.get(name, ABSENT))
            for name, read in ({} if self._all else readers(wanted)).items()
        ]

    def _position(self, name: str) -> float:
        """Where it can be passed by position; infinity where it cannot."""
        if name in self._names:
            return self._names.index(name)
        return int(name) if name.isdecimal() and int(name) >= len(self._names) else inf

    def read(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Mapping[str, Any]:
        if self._nothing:
            return NOTHING
        if self._all:
            return self._read_all(args, kwargs)
        found: dict[str, Any] = {}
        given = len(args)
        for position, name, read, default in self._wanted:
            if position < given:
                read(args[position], found)  # type: ignore[call-overload]
            elif name in kwargs:
                read(kwargs[name], found)
            elif default is not ABSENT:
                read(default, found)
        return found

    def _read_all(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Mapping[str, Any]:
        found: dict[str, Any] = {}
        names = self._names
        given = [names[i] if i < len(names) else str(i) for i in range(len(args))]
        for name, value in (*zip(given, args, strict=True), *kwargs.items()):
            properties(name, value, found)
        for name, value in self._defaults.items():
            if name not in kwargs and name not in given:
                properties(name, value, found)
        return found


class Outputs:
    """Reads what was asked for of one function's result, as ``result`` and below.

    ``result.digest``, of its tensors' contents, is read only if asked for by name.
    """

    def __init__(self, wanted: frozenset[str]) -> None:
        self._read = everything(RESULT) if ALL in wanted else readers(wanted).get(RESULT)
        self._digest = DIGEST in wanted

    def read(self, result: Any) -> Mapping[str, Any]:
        if self._read is None:
            return NOTHING
        found: dict[str, Any] = {}
        self._read(result, found)
        if self._digest:
            _digest(result, found)
        return found


def _digest(result: Any, into: dict[str, Any]) -> None:
    from remora.check.observe.batches import batch_digest  # torch is there by now

    if (digest := batch_digest(result)) is not None:
        into[DIGEST] = digest


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
        {one.name: one.default for one in parameters if _is_plain(type(one.default))},
    )


def _is_plain(kind: type) -> bool:
    return kind in _PLAIN or is_torch_constant(kind)
