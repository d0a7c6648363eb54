"""Read a call's inputs as properties by parameter name, however the caller passed them."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from math import inf
from typing import Any

from remora.check.calls import NOTHING
from remora.check.conditions import ABSENT
from remora.check.observe.selecting import ALL, below, everything, readers
from remora.check.observe.signature import KnownProperties, Sign, signing
from remora.check.values import is_torch_constant, properties

_PLAIN = (bool, int, float, str, type(None))
RESULT = "result"
DIGEST, ROWS = f"{RESULT}.digest", f"{RESULT}.rows"


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
        self._signs: list[Sign] = [signing(rests) for rests in below(wanted).values()]
        self._known = KnownProperties()

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
        values, signature, signed = [], [], True
        given = len(args)
        for (position, name, _, default), sign in zip(self._wanted, self._signs, strict=True):
            value = args[position] if position < given else kwargs.get(name, default)  # type: ignore[call-overload]
            values.append(value)
            signature.append(told := sign(value) if value is not ABSENT else ABSENT)
            signed = signed and told is not None
        if not signed:
            return self._read_of(values)
        key = tuple(signature)
        known = self._known.get(key)
        return known if known is not None else self._known.meet(key, self._read_of(values))

    def _read_of(self, values: list[Any]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for (*_, read, _), value in zip(self._wanted, values, strict=True):
            if value is not ABSENT:
                read(value, found)
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

    ``result.digest``, of its tensors' contents, and ``result.rows``, their first size, are read
    only if asked for by name.
    """

    def __init__(self, wanted: frozenset[str]) -> None:
        self._read = everything(RESULT) if ALL in wanted else readers(wanted).get(RESULT)
        self._digest, self._rows = DIGEST in wanted, ROWS in wanted
        asked = None if ALL in wanted or self._digest or self._rows else below(wanted).get(RESULT)
        self._sign = signing(asked) if asked is not None else None
        self._known = KnownProperties()

    def read(self, result: Any) -> Mapping[str, Any]:
        if self._read is None:
            return NOTHING
        if self._sign is not None and (signature := self._sign(result)) is not None:
            known = self._known.get(signature)
            return known if known is not None else self._known.meet(signature, self._found(result))
        return self._found(result)

    def _found(self, result: Any) -> dict[str, Any]:
        found: dict[str, Any] = {}
        if self._read is not None:
            self._read(result, found)
        if self._digest:
            _digest(result, found)
        if self._rows:
            _rows(result, found)
        return found


def _digest(result: Any, into: dict[str, Any]) -> None:
    from remora.check.observe.batches import batch_digest  # torch is there by now

    if (digest := batch_digest(result)) is not None:
        into[DIGEST] = digest


def _rows(result: Any, into: dict[str, Any]) -> None:
    from remora.check.observe.batches import batch_rows

    if (rows := batch_rows(result)) is not None:
        into[ROWS] = rows


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
