"""Read a call's inputs as properties by parameter name, however the caller passed them."""

from __future__ import annotations

from collections.abc import Mapping
from math import inf
from typing import Any

from remora.check.calls import NOTHING
from remora.check.conditions import ABSENT
from remora.check.observe.parameters import parameters_of
from remora.check.observe.selecting import ALL, below, everything, readers
from remora.check.observe.signature import KnownProperties, signing
from remora.check.values import properties

RESULT = "result"
DIGEST, ROWS = f"{RESULT}.digest", f"{RESULT}.rows"


class Inputs:
    """Reads what was asked for of one function's inputs.

    A function whose signature is not known has its positional inputs called ``0``, ``1``, ….
    Defaults that are plain values are read as if they had been passed.
    """

    def __init__(self, function: Any, wanted: frozenset[str]) -> None:
        self._names, self._defaults = parameters_of(function)
        self._all, self._nothing = ALL in wanted, not wanted
        asked = {} if self._all else below(wanted)
        self._wanted = [
            (self._position(name), name, self._defaults.get(name, ABSENT), signing(rests))
            for name, rests in asked.items()
        ]
        self._readers = list(({} if self._all else readers(wanted)).values())
        self._known = KnownProperties()

    def _position(self, name: str) -> float:
        """Where it can be passed by position; infinity where it cannot."""
        if name in self._names:
            return self._names.index(name)
        return int(name) if name.isdecimal() else inf

    def read(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Mapping[str, Any]:
        if self._nothing:
            return NOTHING
        if self._all:
            return self._read_all(args, kwargs)
        given, signature = len(args), []
        for position, name, default, sign in self._wanted:
            signature.append(
                sign(args[position] if position < given else kwargs.get(name, default))  # type: ignore[call-overload]
            )
        key = tuple(signature)
        if (known := self._known.get(key)) is not None:
            return known
        found = self._read_wanted(args, kwargs)
        return found if None in signature else self._known.meet(key, found)

    def _read_wanted(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for (position, name, default, _), read in zip(self._wanted, self._readers, strict=True):
            value = args[position] if position < len(args) else kwargs.get(name, default)  # type: ignore[call-overload]
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
