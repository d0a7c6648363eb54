"""Random and mutated bytes: no crash, no hang, no memory beyond the limits."""

from __future__ import annotations

import random
import tracemalloc
from collections.abc import Sequence

import msgspec
import numpy as np
import pytest
import torch
from tests.remote.wire.spoken import Requests

from remora.core.clock import ManualClock
from remora.core.errors import LinkLost
from remora.remote.wire.arrived import Arrived
from remora.remote.wire.assembly import Assembly, NoPlaces
from remora.remote.wire.frames import HEADER, MAGIC, VERSION, Kind, pack
from remora.remote.wire.handshake import SMALL, Hello
from remora.remote.wire.limits import Limits
from remora.remote.wire.reader import BUFFER_BYTES, Hears, Reader
from remora.remote.wire.tensors import NAMES

LIMITS = Limits(
    head_bytes=16_384, tensors=8, tensor_bytes=50_000, message_bytes=100_000,
    in_flight_bytes=150_000,
)  # fmt: skip
MOST_BYTES = BUFFER_BYTES + LIMITS.in_flight_bytes + LIMITS.message_bytes + 2**20
"""Of one link: its buffer, what is on its way and what arrived, and objects made of one head."""


class Memory:
    """A transport that reads from bytes, in pieces of any size."""

    def __init__(self, data: bytes, chance: random.Random) -> None:
        self._data, self._at, self._chance = data, 0, chance

    def read_into(self, views: Sequence[memoryview]) -> int | None:
        wanted = self._chance.choice([1, 7, 100, 10_000, 10**6])
        count = 0
        for view in views:
            piece = self._data[self._at : self._at + min(view.nbytes, wanted - count)]
            view[: len(piece)] = piece
            self._at += len(piece)
            count += len(piece)
        return count

    def write(self, views: Sequence[memoryview | bytes]) -> int | None:
        raise AssertionError("a reader writes nothing")

    def wait(self, timeout_s: float, *, reading: bool, writing: bool) -> bool:
        return True

    def unacknowledged(self) -> int:
        return 0

    def shut(self) -> None: ...

    def close(self) -> None: ...


def read_all(data: bytes, chance: random.Random, limits: Limits, union: object) -> int:
    """The number of messages that a link reads from ``data`` until it ends."""
    arrived: list[Arrived] = []
    assembly = Assembly(union, limits, ManualClock(), lambda n: np.empty(n, np.uint8), NoPlaces())
    hears = Hears(lambda request: None, lambda: None, lambda head: None, lambda: None)
    reader = Reader(Memory(data, chance), assembly, limits, arrived.append, hears)
    count = 0
    for _ in range(len(data) + 2):
        try:
            reader.pump()
        except LinkLost:
            return count + len(arrived)
        count += len(arrived)
        arrived.clear()
    raise AssertionError("it reads on without end")


def some_message(chance: random.Random) -> object:
    texts = ["", "x", "é" * 50]
    return chance.choice([
        {"type": "echo", "text": chance.choice(texts)},
        {"type": "count", "until": chance.randrange(10)},
        *[{"type": "silence"}] * 20, {"type": "hello", "protocol": 1}, {"type": 3}, [], None,
    ])  # fmt: skip


def some_frame(chance: random.Random, sequence: int) -> bytes:
    """A frame that is right, or nearly."""
    kind = chance.choice([*Kind, *[Kind.WHOLE] * 12])
    request = chance.randrange(4)
    numbers = [0, 1, 2, 3, 100, 40_000, 10**6, 2**31, 2**62, -1]
    weights = [10, 30, 30, 30, 10, 2, 1, 1, 1, 1]
    specs = [
        (chance.choice(NAMES), tuple(chance.choices(numbers, weights, k=chance.randrange(4))), -1)
        for _ in range(chance.randrange(4))
    ]
    head = msgspec.msgpack.encode((some_message(chance), specs))
    size = min(chance.choice([0, 1, *[_size(specs)] * 18]), 200_000)
    if kind in (Kind.WHOLE, Kind.BEGIN):
        return pack(kind, request, sequence, len(head), size) + head + bytes(size)
    if kind is Kind.DATA:
        return pack(kind, request, sequence, 0, size) + bytes(size)
    return pack(kind, request, sequence)


def _size(specs: list[tuple[str, tuple[int, ...], int]]) -> int:
    total = 0
    for name, shape, _ in specs:
        size = getattr(torch, name).itemsize
        for length in shape:
            size *= max(0, length)
        total += size
    return total


def some_bytes(chance: random.Random) -> bytes:
    """Random bytes, a random header, or frames with a few bytes changed, lost or repeated."""
    way = chance.randrange(10)
    if way == 0:
        return chance.randbytes(chance.randrange(200))
    if way == 1:
        lengths = [0, 1, 16_384, 16_385, 2**31, 2**32 - 1]
        return HEADER.pack(
            MAGIC, VERSION, chance.randrange(12), 1, 0, chance.choice(lengths),
            chance.choice([*lengths, 2**63]),
        ) + chance.randbytes(300)  # fmt: skip
    data = bytearray(b"".join(some_frame(chance, at) for at in range(chance.randrange(1, 6))))
    if way > 5 and data:
        for _ in range(chance.randrange(1, 5)):
            at = chance.randrange(len(data))
            change = chance.randrange(3)
            if change == 0:
                data[at] = chance.randrange(256)
            elif change == 1:
                del data[at : at + chance.randrange(1, 30)]
            else:
                data[at:at] = data[max(0, at - 20) : at]
            if not data:
                break
    return bytes(data)


def fuzz(first: int, count: int, limits: Limits, union: object) -> int:
    tracemalloc.start()
    messages, worst = 0, 0
    try:
        for seed in range(first, first + count):
            chance = random.Random(seed)
            data = some_bytes(chance)
            tracemalloc.reset_peak()
            before = tracemalloc.get_traced_memory()[0]
            messages += read_all(data, chance, limits, union)
            peak = tracemalloc.get_traced_memory()[1] - before
            worst = max(worst, peak)
            assert peak < MOST_BYTES, f"seed {seed}: {peak} bytes"
    finally:
        tracemalloc.stop()
    return messages


def test_two_thousand_streams_of_bytes() -> None:
    assert fuzz(0, 2_000, LIMITS, Requests) > 200, "some of it is understood"


@pytest.mark.slow
def test_a_hundred_thousand_streams_of_bytes() -> None:
    assert fuzz(2_000, 100_000, LIMITS, Requests) > 10_000


def test_streams_of_bytes_before_the_handshake() -> None:
    fuzz(500_000, 500, SMALL, Hello)
    assert read_all(
        (lambda head: pack(Kind.WHOLE, 0, 0, len(head)) + head)(
            msgspec.msgpack.encode((Hello(1, "x", Limits()), ()))
        ),
        random.Random(0), SMALL, Hello,
    ) == 1  # fmt: skip


@pytest.mark.parametrize(
    "head",
    [b"\xdd\xff\xff\xff\xff", b"\x92\x80\xdd\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff",
     b"\xdf\xff\xff\xff\xff", b"\xdb\xff\xff\xff\xff", b"\x91" * 10_000, b"\x81\xa1x" * 4_000],
)  # fmt: skip
def test_lengths_that_are_not_there_take_no_memory(head: bytes) -> None:
    data = pack(Kind.WHOLE, 1, 0, len(head)) + head
    tracemalloc.start()
    try:
        assert read_all(data, random.Random(0), LIMITS, Requests) == 0
        assert tracemalloc.get_traced_memory()[1] < MOST_BYTES
    finally:
        tracemalloc.stop()
