"""Frames: every message comes back; garbage never crashes, nor is anything allocated for it."""

from __future__ import annotations

import contextlib
import socket
import struct
import tracemalloc
from collections.abc import Iterator

import pytest
import xxhash
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from remora.checkpoint.layout.records import Entry
from remora.checkpoint.peer import frames
from remora.checkpoint.peer.channel import Channel
from remora.checkpoint.peer.frames import (
    MAX_HEADER_BYTES,
    PREFIX,
    AnyMessage,
    ProtocolError,
    VersionDiffers,
    encode,
    parse_message,
    parse_prefix,
)
from remora.checkpoint.tiers.contract import PIECE_BYTES, Copy, Owner

words = st.integers(-(2**63), 2**64 - 1)
entries = st.builds(Entry, words, words, words, words, words, st.binary(max_size=32), words)
copies = st.builds(Copy, words, st.text(), entries, st.lists(words, max_size=5).map(tuple))
owners = st.builds(Owner, st.text(), st.text(), words, st.text())
kinds = st.sampled_from(["owner", "unowned", "memory", "gone", "token", "protocol"])
messages: st.SearchStrategy[AnyMessage] = st.one_of(
    st.builds(frames.Hello, st.text(), st.binary(), st.binary()),
    st.just(frames.AskOwner()),
    st.builds(frames.Claim, st.text(), st.text()),
    st.just(frames.AskCopies()),
    st.builds(frames.Begin, copies),
    st.builds(frames.Piece, words, words),
    st.just(frames.Commit()),
    st.builds(frames.Retain, words),
    st.builds(frames.Read, copies, words, words, words),
    st.builds(frames.Challenge, st.binary(), st.booleans()),
    st.builds(frames.Welcome, st.binary()),
    st.builds(frames.OwnerIs, st.none() | owners),
    st.builds(frames.Copies, st.lists(copies, max_size=3)),
    st.builds(frames.Ready, st.booleans()),
    st.just(frames.Done()),
    st.just(frames.Data()),
    st.builds(frames.Refused, kinds, st.text()),
)
quick = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@contextlib.contextmanager
def connected() -> Iterator[tuple[socket.socket, Channel]]:
    one, other = socket.socketpair()
    with one, contextlib.closing(_Local(other)) as channel:
        yield one, channel


class _Local(Channel):
    """Over a socket pair, which has no TCP options."""

    def __init__(self, connection: socket.socket) -> None:
        connection.settimeout(5)
        self._socket = connection


@given(messages)
def test_every_message_comes_back(message: AnyMessage) -> None:
    data = encode(message)
    prefix = parse_prefix(data[: PREFIX.size])
    assert parse_message(prefix, data[PREFIX.size :]) == message


@quick
@given(message=messages, payload=st.binary(max_size=100_000))
def test_messages_and_data_go_over_a_connection(message: AnyMessage, payload: bytes) -> None:
    with connected() as (one, channel):
        sender = _Local(one)
        sender.send(message, memoryview(payload))
        sender.send(frames.Done())
        room = memoryview(bytearray(len(payload)))
        assert channel.receive(lambda _, size: room[:size]) == message
        assert room == payload
        assert channel.receive() == frames.Done()


@given(st.binary(max_size=PREFIX.size + 8))
def test_garbage_is_no_prefix(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        parse_prefix(data)


@given(st.binary(max_size=2000))
def test_garbage_is_no_message_even_with_the_right_checksum(data: bytes) -> None:
    prefix = frames.Prefix(len(data), 0, xxhash.xxh3_64_intdigest(data), 0)
    with contextlib.suppress(ProtocolError):
        assert encode(parse_message(prefix, data))  # it happens to be one


@given(messages, st.data())
def test_no_changed_frame_is_taken_for_one(message: AnyMessage, data: st.DataObject) -> None:
    whole = bytearray(encode(message))
    at = data.draw(st.integers(0, len(whole) - 1))
    whole[at] ^= 1 << data.draw(st.integers(0, 7))
    if at in (6, 7) or 12 <= at < 16 or (at >= 24 and at < 32):
        return  # reserved, and what is about a payload that did not come
    with connected() as (one, channel):
        one.sendall(whole)
        one.shutdown(socket.SHUT_WR)
        with pytest.raises(OSError):
            channel.receive()


@quick
@given(garbage=st.binary(max_size=500))
def test_garbage_ends_a_connection_and_nothing_else(garbage: bytes) -> None:
    with connected() as (one, channel):
        one.sendall(garbage)
        one.shutdown(socket.SHUT_WR)
        with pytest.raises(OSError):
            channel.receive()


@pytest.mark.parametrize(
    ("header_bytes", "payload_bytes"),
    [(MAX_HEADER_BYTES + 1, 0), (2**32 - 1, 0), (0, PIECE_BYTES + 1), (10, 2**32 - 1)],
)
def test_nothing_is_allocated_for_more_than_a_frame_may_hold(
    header_bytes: int, payload_bytes: int
) -> None:
    prefix = PREFIX.pack(b"RMRP", frames.VERSION, 0, header_bytes, payload_bytes, 0, 0)
    with connected() as (one, channel):
        one.sendall(prefix)
        tracemalloc.start()
        try:
            with pytest.raises(ProtocolError, match="larger than any"):
                channel.receive(lambda _, size: memoryview(bytearray(size)))
            assert tracemalloc.get_traced_memory()[1] < 100_000
        finally:
            tracemalloc.stop()


def test_data_where_none_is_due_is_not_even_read() -> None:
    with connected() as (one, channel):
        one.sendall(encode(frames.Done(), bytes(5000)) + bytes(5000))
        with pytest.raises(ProtocolError, match="none was due"):
            channel.receive()


def test_damaged_data_is_found() -> None:
    payload = bytes(range(256))
    with connected() as (one, channel):
        one.sendall(encode(frames.Data(), payload) + payload[:-1] + b"\0")
        room = memoryview(bytearray(256))
        with pytest.raises(ProtocolError, match="damaged on the way"):
            channel.receive(lambda _, size: room[:size])


def test_another_version_says_both() -> None:
    prefix = struct.pack("<4sHHIIQQ", b"RMRP", 7, 0, 0, 0, 0, 0)
    with pytest.raises(VersionDiffers, match="version 7, this one 1"):
        parse_prefix(prefix)


def test_more_than_a_frame_holds_is_not_sent() -> None:
    with pytest.raises(ValueError):
        encode(frames.Data(), bytes(PIECE_BYTES + 1))
    with pytest.raises(ValueError):
        encode(frames.Claim("x" * (MAX_HEADER_BYTES + 1), ""))
