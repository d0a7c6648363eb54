"""What variables hold, as ranks tell each other: a number each, under names told once.

A number is 32 bits of a digest: two contents that differ have the same one in 4 billion.
"""

from __future__ import annotations

from array import array
from collections.abc import Hashable, Sequence
from typing import NamedTuple

import msgspec
import xxhash

from remora.check.ranks.meeting import Meeting

_TOPIC = "variables"
_NAMES_BYTES = 8
_LOW = 0xFFFFFFFF


def number_of(content: Hashable) -> int:
    """A number that stands for what stands for a content; the same in every process."""
    return content if type(content) is int else xxhash.xxh3_64_intdigest(repr(content).encode())


class Compared(NamedTuple):
    """This rank beside the one that came first."""

    rank: int
    """The other one."""
    shared: Sequence[str]
    """Names of the variables that both have."""
    apart: frozenset[str]
    """Those of them whose contents differ."""
    others: Sequence[str]
    """Names that only one of them has."""


class RankContents:
    """Compares the variables of this rank with those of the first to come, step by step."""

    def __init__(self, meeting: Meeting) -> None:
        self._meeting = meeting
        self._names: Sequence[str] = ()
        self._key = b""
        self._known: dict[bytes, tuple[str, ...]] = {}

    def compare(self, step: int, names: Sequence[str], numbers: Sequence[int]) -> Compared | None:
        """None where there is no other to compare with. ``names`` are sorted."""
        if names != self._names:
            self._tell(names)
        words = self._key + array("I", [number & _LOW for number in numbers]).tobytes()
        said = self._meeting.first(_TOPIC, step, words)
        if said is None:
            return None
        if said.words == words:
            return Compared(said.rank, names, frozenset(), ())
        return self._apart(said.rank, names, words, said.words)

    def _tell(self, names: Sequence[str]) -> None:
        told = msgspec.msgpack.encode(tuple(names))
        self._names, self._key = names, xxhash.xxh3_64_digest(told)
        self._known[self._key] = tuple(names)
        self._meeting.tell(self._key.hex(), told)

    def _apart(self, rank: int, names: Sequence[str], own: bytes, others: bytes) -> Compared | None:
        their_names = self._names_of(others[:_NAMES_BYTES])
        if their_names is None:
            return None
        here = dict(zip(names, _numbers(own), strict=True))
        there = dict(zip(their_names, _numbers(others), strict=True))
        shared = [name for name in names if name in there]
        apart = frozenset(name for name in shared if here[name] != there[name])
        alone = [name for name in {**here, **there} if name not in here or name not in there]
        return Compared(rank, shared, apart, alone)

    def _names_of(self, key: bytes) -> tuple[str, ...] | None:
        if key not in self._known:
            told = self._meeting.told(key.hex())
            if told is None:
                return None
            self._known[key] = msgspec.msgpack.decode(told, type=tuple[str, ...])
        return self._known[key]


def _numbers(words: bytes) -> array[int]:
    return array("I", words[_NAMES_BYTES:])
