"""What goes over the wire between a job and its peer: frames of a message and raw bytes.

Little-endian::

    0   magic     4 bytes   b"RMRP"
    4   version   u16
    6   reserved  u16
    8   header    u32       bytes of the message that follows, at most MAX_HEADER_BYTES
    12  payload   u32       bytes after that, at most PIECE_BYTES
    16  u64                 xxh3-64 of the message
    24  u64                 xxh3-64 of the payload

A message is one of the structs below, as msgpack. Nothing is allocated before its size has been
checked, nothing is unpickled, and what does not check ends the connection.
"""

from __future__ import annotations

import struct
from typing import Literal, NamedTuple, TypeAlias

import msgspec
import xxhash

from remora.checkpoint.tiers.contract import PIECE_BYTES, Copy, Owner

VERSION = 1
PREFIX = struct.Struct("<4sHHIIQQ")
MAX_HEADER_BYTES = 2**20
MAX_NAME = 256
NONCE_BYTES = 32
_MAGIC = b"RMRP"


class ProtocolError(OSError):
    """What came is no frame of ours, or not the one that is due."""


class VersionDiffers(ProtocolError):
    """The other side speaks another version."""


class Prefix(NamedTuple):
    header_bytes: int
    payload_bytes: int
    header_hash: int
    payload_hash: int


class Message(msgspec.Struct, frozen=True, tag=True):
    """Any message."""


# ---------------------------------------------------------------- what the job asks


class Hello(Message, frozen=True):
    """The answer to :class:`Challenge`."""

    name: str
    """Of the run's place at the peer."""
    nonce: bytes
    proof: bytes
    """That the job knows the token; empty where there is none."""


class AskOwner(Message, frozen=True):
    pass


class Claim(Message, frozen=True):
    run: str
    who: str


class AskCopies(Message, frozen=True):
    pass


class Begin(Message, frozen=True):
    """Room for ``copy``; the answer is :class:`Ready`."""

    copy: Copy


class Piece(Message, frozen=True):
    """With the bytes of ``part`` at ``offset`` as payload. Has no answer."""

    part: int
    offset: int


class Commit(Message, frozen=True):
    """Every piece has been sent: keep the copy."""


class Retain(Message, frozen=True):
    keep: int


class Read(Message, frozen=True):
    """The answer is :class:`Data`, with a payload."""

    copy: Copy
    part: int
    offset: int
    count: int


# ---------------------------------------------------------------- what the peer answers


class Challenge(Message, frozen=True):
    """The first message, from the peer."""

    nonce: bytes
    token_wanted: bool


class Welcome(Message, frozen=True):
    proof: bytes
    """That the peer knows the token."""


class OwnerIs(Message, frozen=True):
    owner: Owner | None


class Copies(Message, frozen=True):
    copies: list[Copy]


class Ready(Message, frozen=True):
    there: bool
    """The copy is here already, whole: send nothing."""


class Done(Message, frozen=True):
    pass


class Data(Message, frozen=True):
    pass


class Refused(Message, frozen=True):
    kind: Literal["owner", "unowned", "memory", "gone", "token", "protocol"]
    reason: str


AnyMessage: TypeAlias = (
    Hello | AskOwner | Claim | AskCopies | Begin | Piece | Commit | Retain | Read
    | Challenge | Welcome | OwnerIs | Copies | Ready | Done | Data | Refused
)  # fmt: skip

_ENCODER = msgspec.msgpack.Encoder()
_DECODER: msgspec.msgpack.Decoder[AnyMessage] = msgspec.msgpack.Decoder(AnyMessage)


def encode(message: AnyMessage, payload: memoryview | bytes = b"") -> bytes:
    """The prefix and the message; the payload's bytes come after them.

    Raises:
        ValueError: one of them is larger than a frame may be.
    """
    header = _ENCODER.encode(message)
    size = len(payload)
    if len(header) > MAX_HEADER_BYTES or size > PIECE_BYTES:
        raise ValueError(f"a frame holds {MAX_HEADER_BYTES} and {PIECE_BYTES} bytes at most")
    hashes = xxhash.xxh3_64_intdigest(header), xxhash.xxh3_64_intdigest(payload)
    return PREFIX.pack(_MAGIC, VERSION, 0, len(header), size, *hashes) + header


def parse_prefix(data: bytes) -> Prefix:
    """What the first :data:`PREFIX` bytes of a frame announce.

    Raises:
        VersionDiffers: it is of another version.
        ProtocolError: it is none, or announces more than a frame may hold.
    """
    if len(data) != PREFIX.size or not data.startswith(_MAGIC):
        raise ProtocolError("this is not Remora's protocol; is it the right port?")
    _, version, _, header_bytes, payload_bytes, *hashes = PREFIX.unpack(data)
    if version != VERSION:
        raise VersionDiffers(f"the other side speaks version {version}, this one {VERSION}")
    if header_bytes > MAX_HEADER_BYTES or payload_bytes > PIECE_BYTES:
        raise ProtocolError("a frame is larger than any may be")
    return Prefix(header_bytes, payload_bytes, *hashes)


def parse_message(prefix: Prefix, header: bytes) -> AnyMessage:
    """The message in ``header``.

    Raises:
        ProtocolError: it is none.
    """
    if xxhash.xxh3_64_intdigest(header) != prefix.header_hash:
        raise ProtocolError("a message was damaged on the way")
    try:
        return _DECODER.decode(header)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ProtocolError(f"a message cannot be read: {error}") from None


def check_payload(prefix: Prefix, payload: memoryview) -> None:
    """
    Raises:
        ProtocolError: ``payload`` is not what was sent.
    """
    if xxhash.xxh3_64_intdigest(payload) != prefix.payload_hash:
        raise ProtocolError("data was damaged on the way")
