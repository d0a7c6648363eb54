"""The header of a frame: what is packed is unpacked, anything else is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remora.core.errors import WireDamaged
from remora.remote.wire.frames import HEADER_BYTES, NUMBERS, Frame, Kind, pack, unpack
from remora.remote.wire.limits import Limits

LIMITS = Limits()
numbers = st.integers(0, NUMBERS - 1)
heads = st.integers(1, LIMITS.head_bytes)
bodies = st.integers(0, LIMITS.message_bytes)


@st.composite
def frames(draw: st.DrawFn) -> Frame:
    kind = draw(st.sampled_from(list(Kind)))
    with_head = kind in (Kind.WHOLE, Kind.BEGIN, Kind.RELEASE)
    with_body = kind in (Kind.WHOLE, Kind.BEGIN, Kind.DATA)
    return Frame(
        kind,
        draw(numbers),
        draw(numbers),
        draw(heads) if with_head else 0,
        draw(bodies) if with_body else 0,
    )


@given(frames(), st.binary(max_size=8))
def test_what_is_packed_is_unpacked(frame: Frame, before: bytes) -> None:
    header = pack(*frame)
    assert len(header) == HEADER_BYTES == 24
    assert unpack(before + header, LIMITS, len(before)) == frame


@given(st.binary(max_size=40))
def test_other_bytes_are_a_frame_or_damaged(header: bytes) -> None:
    try:
        frame = unpack(header, LIMITS)
    except WireDamaged:
        return
    assert pack(*frame) == header[:HEADER_BYTES]


@given(frames(), st.integers(0, HEADER_BYTES - 1), st.integers(1, 255))
def test_a_changed_byte_is_another_frame_or_damaged(frame: Frame, place: int, by: int) -> None:
    header = bytearray(pack(*frame))
    header[place] ^= by
    try:
        assert unpack(header, LIMITS) != frame
    except WireDamaged:
        return


@pytest.mark.parametrize(
    ("header", "words"),
    [
        (b"GET / HTTP/1.1\r\nHost: here\r\n", "begins with b'GE'"),
        (b"", "has 24 bytes, this one 0"),
        (bytes([*b"rW", 2]) + bytes(21), "frames of version 2 arrived; this end reads version 1"),
        (bytes([*b"rW", 1, 99]) + bytes(20), "unknown kind 99"),
        (pack(Kind.WHOLE, 1, 0, LIMITS.head_bytes + 1), "a head of 1048577 bytes was announced"),
        (pack(Kind.DATA, 1, 0, 0, LIMITS.message_bytes + 1), "a body of 17179869185 bytes"),
        (pack(Kind.PING, 1, 0, 0, 4), "a ping frame with a head of 0 and a body of 4"),
        (pack(Kind.WHOLE, 1, 0, 0, 4), "a whole frame with a head of 0"),
    ],
)
def test_it_is_said_what_is_wrong(header: bytes, words: str) -> None:
    with pytest.raises(WireDamaged, match=words.replace("(", r"\(")):
        unpack(header, LIMITS)
