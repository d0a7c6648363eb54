"""Chunks of many messages, in any order that keeps each message's own, become those messages."""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import starmap

import msgspec
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.remote.wire.spoken import ALL_DTYPES, Echo, Requests, same, some_tensor
from tests.remote.wire.test_fuzz import Memory

from remora.core.clock import ManualClock
from remora.core.errors import LinkLost
from remora.remote.wire.arrived import Arrived
from remora.remote.wire.assembly import Assembly, NoPlaces
from remora.remote.wire.frames import Kind, pack
from remora.remote.wire.limits import Limits
from remora.remote.wire.reader import Hears, Reader
from remora.remote.wire.tensors import describe, view_of

Chunk = tuple[Kind, bytes, bytes]


def cut(text: str, tensors: Sequence[torch.Tensor], chance: random.Random) -> list[Chunk]:
    """A message in frames of any sizes."""
    head = msgspec.msgpack.encode((Echo(text), describe(tensors, Limits())[0]))
    body = b"".join(bytes(view_of(tensor)) for tensor in tensors)
    if not body or chance.random() < 0.2:
        return [(Kind.WHOLE, head, body)]
    first = chance.randrange(len(body))
    chunks, at = [(Kind.BEGIN, head, body[:first])], first
    while at < len(body):
        size = chance.randint(1, len(body) - at)
        chunks.append((Kind.DATA, b"", body[at : at + size]))
        at += size
    return chunks


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 6))
def test_any_interleaving_gives_every_message(seed: int, requests: int) -> None:
    chance = random.Random(seed)
    sent: dict[int, list[torch.Tensor]] = {}
    waiting: dict[int, list[Chunk]] = {}
    for request in range(requests):
        tensors = [
            some_tensor(chance.choice(ALL_DTYPES), (chance.choice([0, 1, 9, 30_000]), 2), request)
            for _ in range(chance.randrange(4))
        ]
        sent[request], waiting[request] = tensors, cut(str(request), tensors, chance)
    data, sequence, cancelled = b"", 0, set()
    while waiting:
        request = chance.choice(sorted(waiting))
        kind, head, body = waiting[request].pop(0)
        if kind is Kind.DATA and chance.random() < 0.1:
            kind, body, waiting[request] = Kind.CANCEL, b"", []
            cancelled.add(request)
        data += pack(kind, request, sequence, len(head), len(body)) + head + body
        sequence += 1
        if not waiting[request]:
            del waiting[request]
    arrived, told, assembly = _read(data, chance)
    assert {each.request for each in arrived} == set(sent) - cancelled
    assert told == cancelled
    for each in arrived:
        assert each.message == Echo(str(each.request))
        assert all(starmap(same, zip(each.tensors, sent[each.request], strict=True)))
    assert assembly.in_flight_bytes == 0
    assert sum(each.wire_bytes for each in arrived) <= len(data)


def _read(data: bytes, chance: random.Random) -> tuple[list[Arrived], set[int], Assembly]:
    arrived, told = list[Arrived](), set[int]()
    assembly = Assembly(
        Requests, Limits(), ManualClock(), lambda size: np.empty(size, np.uint8), NoPlaces()
    )
    hears = Hears(told.add, lambda: None, lambda head: None, lambda: None)
    reader = Reader(Memory(data, chance), assembly, Limits(), arrived.append, hears)
    with pytest.raises(LinkLost, match="the other end closed the connection"):
        while True:
            reader.pump()
    return arrived, told, assembly
