"""A frame's header: 24 bytes that say what follows them.

    offset  bytes  what
         0      2  magic, "rW"
         2      1  version of this layout
         3      1  kind
         4      4  request, unsigned
         8      4  sequence number in its direction, unsigned; a gap is an error
        12      4  length of the head: an encoded message and what it says of its tensors
        16      8  length of the body: bytes of tensors

Little endian. The head comes first, then the body.
"""

from __future__ import annotations

import enum
import struct
from typing import NamedTuple

from remora.core.errors import WireDamaged
from remora.remote.wire.limits import Limits

MAGIC = b"rW"
VERSION = 1
HEADER = struct.Struct("<2sBBIIIQ")
HEADER_BYTES = HEADER.size
NUMBERS = 2**32
"""Requests and sequence numbers are below this; sequence numbers begin again at 0."""


class Kind(enum.IntEnum):
    """What a frame is."""

    WHOLE = 1
    """A message with all its tensors."""
    BEGIN = 2
    """A message, and the first of its tensors' bytes; data frames bring the rest."""
    DATA = 3
    """More bytes of the tensors of a message that has begun."""
    CANCEL = 4
    """The sender wants no more of this request, and sends no more of it."""
    PING = 5
    """Asks for a sign of life."""
    PONG = 6
    """A sign of life."""
    RELEASE = 7
    """Places in shared memory that may be written again: 8 bytes each."""
    MAPPED = 8
    """The sender has mapped the receiver's shared memory, which may be used from here on."""


class Frame(NamedTuple):
    """One header, unpacked."""

    kind: Kind
    request: int
    sequence: int
    head_bytes: int
    body_bytes: int


_KINDS = {int(kind): kind for kind in Kind}
_WITH_HEAD = frozenset((Kind.WHOLE, Kind.BEGIN, Kind.RELEASE))
_WITH_BODY = frozenset((Kind.WHOLE, Kind.BEGIN, Kind.DATA))


def pack(
    kind: Kind, request: int, sequence: int, head_bytes: int = 0, body_bytes: int = 0
) -> bytes:
    """The header of one frame."""
    return HEADER.pack(MAGIC, VERSION, kind, request, sequence, head_bytes, body_bytes)


def unpack(header: bytes | bytearray | memoryview, limits: Limits, offset: int = 0) -> Frame:
    """The header that begins at ``offset``.

    Raises:
        WireDamaged: it is none, or announces more than ``limits`` allow.
    """
    if len(header) - offset < HEADER_BYTES:
        raise WireDamaged(f"a header has {HEADER_BYTES} bytes, this one {len(header) - offset}")
    magic, version, number, request, sequence, head_bytes, body_bytes = HEADER.unpack_from(
        header, offset
    )
    if magic != MAGIC:
        raise WireDamaged(f"what arrived is no frame: it begins with {magic!r}, not {MAGIC!r}")
    if version != VERSION:
        raise WireDamaged(f"frames of version {version} arrived; this end reads version {VERSION}")
    kind = _KINDS.get(number)
    if kind is None:
        raise WireDamaged(f"a frame of the unknown kind {number} arrived")
    has_what_it_may = bool(head_bytes) == (kind in _WITH_HEAD) and (
        not body_bytes or kind in _WITH_BODY
    )
    if not has_what_it_may or head_bytes > limits.head_bytes or body_bytes > limits.message_bytes:
        raise _wrong_lengths(kind, head_bytes, body_bytes, limits)
    return Frame(kind, request, sequence, head_bytes, body_bytes)


def _wrong_lengths(kind: Kind, head_bytes: int, body_bytes: int, limits: Limits) -> WireDamaged:
    if head_bytes > limits.head_bytes:
        return WireDamaged(
            f"a head of {head_bytes} bytes was announced; at most {limits.head_bytes} are accepted"
        )
    if body_bytes > limits.message_bytes:
        return WireDamaged(
            f"a body of {body_bytes} bytes was announced; "
            f"at most {limits.message_bytes} are accepted"
        )
    return WireDamaged(
        f"a {kind.name.lower()} frame with a head of {head_bytes} and a body of "
        f"{body_bytes} bytes arrived, which is none"
    )
