"""The two small objects of a shelf: a copy's manifest, and the owner's card. JSON with a checksum.

One line of JSON, and a line with the xxh3-64 of the first in hexadecimal: whoever looks can read
it, and what was cut off or changed is not taken for one.
"""

from __future__ import annotations

from typing import Literal, TypeVar

import msgspec
import xxhash

from remora.checkpoint.tiers.contract import Copy, Owner, check
from remora.core.errors import CheckpointDamaged

MAX_BYTES = 2**20
"""Of either object: what is larger is none of ours."""


class _Manifest(msgspec.Struct, frozen=True):
    remora: Literal["copy-1"]
    copy: Copy


class _Card(msgspec.Struct, frozen=True):
    remora: Literal["owner-1"]
    owner: Owner


T = TypeVar("T", _Manifest, _Card)


def encode_copy(copy: Copy) -> bytes:
    return _seal(_Manifest("copy-1", copy))


def decode_copy(data: bytes) -> Copy:
    """What :func:`encode_copy` gave.

    Raises:
        CheckpointDamaged: ``data`` is nothing of the kind.
    """
    manifest = _open(data, _Manifest)
    try:
        return check(manifest.copy)
    except ValueError as error:
        raise CheckpointDamaged(f"a copy's manifest is damaged: {error}") from None


def encode_owner(owner: Owner) -> bytes:
    return _seal(_Card("owner-1", owner))


def decode_owner(data: bytes) -> Owner:
    """What :func:`encode_owner` gave.

    Raises:
        CheckpointDamaged: ``data`` is nothing of the kind.
    """
    return _open(data, _Card).owner


def _seal(value: _Manifest | _Card) -> bytes:
    line = msgspec.json.encode(value)
    return line + b"\n" + xxhash.xxh3_64_hexdigest(line).encode() + b"\n"


def _open(data: bytes, kind: type[T]) -> T:
    line, _, checksum = data.partition(b"\n")
    if checksum.strip() != xxhash.xxh3_64_hexdigest(line).encode():
        raise CheckpointDamaged("a manifest is damaged: its checksum is another")
    try:
        return msgspec.json.decode(line, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise CheckpointDamaged(f"a manifest is damaged, or of another version: {error}") from None
