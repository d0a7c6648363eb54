"""Read a call's inputs as properties by parameter name, however the caller passed them."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from math import inf
from typing import Any

from remora.check.calls import NOTHING
from remora.check.conditions import ABSENT
from remora.check.observe.parameters import parameters_of
from remora.check.observe.selecting import ALL, below, everything, readers
from remora.check.observe.signature import KnownProperties, Signing
from remora.check.values import properties

Read = Callable[[tuple[Any, ...], Mapping[str, Any]], Mapping[str, Any]]

RESULT = "result"
DIGEST, ROWS = f"{RESULT}.digest", f"{RESULT}.rows"


class Inputs:
    """Reads what was asked for of one function's inputs: :attr:`read` is paid at every call.

    A function whose signature is not known has its positional inputs called ``0``, ``1``, ….
    Defaults that are plain values are read as if they had been passed.
    """

    def __init__(self, function: Any, wanted: frozenset[str]) -> None:
        self._names, self._defaults = parameters_of(function)
        self._all, self._nothing = ALL in wanted, not wanted
        asked = {} if self._all else below(wanted)
        self._wanted = [
            (self._position(name), name, self._defaults.get(name, ABSENT), Signing(rests))
            for name, rests in asked.items()
        ]
        self._readers = list(({} if self._all else readers(wanted)).values())
        self._known = KnownProperties()
        self.read = self._reading()

    def _position(self, name: str) -> float:
        """Where it can be passed by position; infinity where it cannot."""
        if name in self._names:
            return self._names.index(name)
        return int(name) if name.isdecimal() else inf

    def _reading(self) -> Read:
        if self._all:
            return self._read_all
        if self._nothing:
            return _nothing
        wanted, known, read_wanted = self._wanted, self._known, self._read_wanted

        def read(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Mapping[str, Any]:
            given = len(args)
            signature: list[Hashable] = []
            for position, name, default, telling in wanted:
                value = args[position] if position < given else kwargs.get(name, default)  # type: ignore[call-overload]
                kind = type(value)
                if (tell := telling[kind]) is None:
                    return read_wanted(args, kwargs)
                signature.append((kind, tell(value)))
            key = tuple(signature)
            found = known.get(key)
            return found if found is not None else known.meet(key, read_wanted(args, kwargs))

        return read

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
        is_signed = not (ALL in wanted or self._digest or self._rows)
        self.telling = Signing(below(wanted).get(RESULT, ())) if is_signed else _Unsigned()
        """What tells results apart; those that it tells nothing of have to be read."""
        self.wanted = self._read is not None
        """Whether anything is."""
        self._known = KnownProperties()

    def read(self, result: Any) -> Mapping[str, Any]:
        if not self.wanted:
            return NOTHING
        kind = type(result)
        if (tell := self.telling[kind]) is None:
            return self._found(result)
        signature = kind, tell(result)
        known = self._known.get(signature)
        return known if known is not None else self._known.meet(signature, self._found(result))

    def _found(self, result: Any) -> dict[str, Any]:
        found: dict[str, Any] = {}
        if self._read is not None:
            self._read(result, found)
        if self._digest:
            _digest(result, found)
        if self._rows:
            _rows(result, found)
        return found


class _Unsigned(dict[type, None]):
    """Of no type can anything be told."""

    def __missing__(self, kind: type) -> None:
        return None


def _nothing(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Mapping[str, Any]:
    return NOTHING


def _digest(result: Any, into: dict[str, Any]) -> None:
    from remora.check.observe.batches import batch_digest  # torch is there by now

    if (digest := batch_digest(result)) is not None:
        into[DIGEST] = digest


def _rows(result: Any, into: dict[str, Any]) -> None:
    from remora.check.observe.batches import batch_rows

    if (rows := batch_rows(result)) is not None:
        into[ROWS] = rows
