"""Streams that were recorded before, and the digests that the server knows them by."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Mapping, Sequence

import msgspec

from remora.remote.eager.entries import Entry
from remora.remote.segment.kept import MOST, Kept
from remora.remote.segment.plan import FREE, Plan, Signature, given_in


class Plans:
    """Those of one connection."""

    def __init__(self) -> None:
        self._digests: OrderedDict[object, str] = OrderedDict()
        self._kept: Kept[bool] = Kept()

    def of(
        self,
        stream: Sequence[int],
        entries: Mapping[int, Entry],
        input_bytes: Sequence[int],
        scalars: int = 0,
    ) -> tuple[str, bytes | None]:
        """Digest of what was recorded, and all of it where the server does not know it."""
        key = (tuple(stream), tuple(input_bytes), scalars)
        digest = self._digests.get(key)
        if digest is not None and self._kept.use(digest):
            self._digests.move_to_end(key)
            return digest, None
        encoded = msgspec.msgpack.encode(_whole(stream, entries, input_bytes, scalars))
        digest = self._digests[key] = hashlib.sha256(encoded).hexdigest()
        if len(self._digests) > MOST:
            self._digests.popitem(last=False)
        if self._kept.use(digest):
            return digest, None
        self._kept.keep(digest, True, len(encoded))
        return digest, encoded


def _whole(
    recorded: Sequence[int],
    entries: Mapping[int, Entry],
    input_bytes: Sequence[int],
    scalars: int,
) -> Plan:
    """As recorded, with signatures numbered as they come: the same in every program."""
    numbers: dict[int, int] = {}
    signatures: list[Signature] = []
    stream: list[int] = []
    remaining = iter(recorded)
    for index in remaining:
        if index == FREE:
            stream += (FREE, next(remaining))
            continue
        signature = entries[index].signature
        if index not in numbers:
            numbers[index] = len(signatures)
            signatures.append(signature)
        stream.append(numbers[index])
        stream += (next(remaining) for _ in given_in(signature))
    return Plan(tuple(signatures), tuple(stream), tuple(input_bytes), scalars)
