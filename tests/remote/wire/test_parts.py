"""Spans, turns and pools: the small parts, each alone."""

from __future__ import annotations

import gc
import threading
import time

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.remote.wire.spoken import within

from remora.remote.wire.pool import LEAST_BYTES, Pool
from remora.remote.wire.span import Span
from remora.remote.wire.tensors import Spec, tensor_in
from remora.remote.wire.turns import Turns

pieces_of = st.lists(st.binary(max_size=20), max_size=8)


@given(pieces_of, st.lists(st.integers(1, 50), max_size=40))
def test_a_span_gives_its_bytes_in_order(pieces: list[bytes], steps: list[int]) -> None:
    span, whole, at = Span(map(memoryview, pieces)), b"".join(pieces), 0
    for step in steps:
        front = b"".join(span.front(step))
        assert front == whole[at : at + step]
        count = (len(front) + 1) // 2
        span.advance(count)
        at += count
        assert span.left == len(whole) - at
        assert span.copied() == whole[at:]


@given(pieces_of, st.lists(st.binary(min_size=1, max_size=15), max_size=20))
def test_a_span_is_filled_in_order(pieces: list[bytes], sources: list[bytes]) -> None:
    memories = [bytearray(len(piece)) for piece in pieces]
    span, expected = Span(map(memoryview, memories)), b""
    for source in sources:
        part = source[: span.left]
        span.fill(memoryview(part))
        expected += part
    filled = b"".join(memories)
    assert filled == expected + bytes(len(filled) - len(expected))


def test_what_is_small_goes_before_the_next_chunk() -> None:
    turns, order = Turns(), list[str]()

    def go(name: str, small: bool) -> None:
        assert turns.take(small=small)
        order.append(name)
        turns.give()

    assert turns.take(small=False)
    chunk = threading.Thread(target=go, args=("chunk", False))
    chunk.start()
    assert within(5, lambda: turns._waiting == 1)
    small = [threading.Thread(target=go, args=("small", True)) for _ in range(3)]
    for thread in small:
        thread.start()
    assert within(5, lambda: turns._waiting == 4)
    assert not turns.take_now()
    turns.give()
    for thread in [chunk, *small]:
        thread.join(5)
    assert order == ["small", "small", "small", "chunk"]
    assert turns.take_now()


def test_waiting_for_a_turn_has_an_end() -> None:
    turns = Turns()
    assert turns.take_now()
    began = time.monotonic()
    assert not turns.take(small=True, timeout_s=0.05)
    assert time.monotonic() - began < 1
    turns.give()
    assert turns.take(small=False, timeout_s=0.05), "nobody small waits any more"


@pytest.mark.slow
def test_memory_is_used_again_when_its_tensor_is_gone() -> None:
    pool, size = Pool(), 2 * LEAST_BYTES + 5
    tensor = tensor_in(pool(size), Spec("uint8", (size,)))
    place = tensor.data_ptr()
    row = tensor[7:9]
    other = tensor_in(pool(size), Spec("uint8", (size,)))
    assert other.data_ptr() != place
    del tensor
    gc.collect()
    assert pool.kept_bytes == 0, "a view still shows it"
    del row
    gc.collect()
    assert pool.kept_bytes >= size
    assert tensor_in(pool(size), Spec("uint8", (size,))).data_ptr() == place


@pytest.mark.slow
def test_an_array_of_a_tensor_keeps_its_memory() -> None:
    pool = Pool()
    array = tensor_in(pool(LEAST_BYTES), Spec("float32", (LEAST_BYTES // 4,))).numpy()[1:3]
    gc.collect()
    assert pool.kept_bytes == 0
    del array
    gc.collect()
    assert pool.kept_bytes == LEAST_BYTES


@pytest.mark.slow
def test_what_is_kept_is_bounded() -> None:
    pool = Pool(kept_bytes=5 * LEAST_BYTES)
    for count in (1, 2, 3, 4, 9):
        tensor = torch.from_numpy(pool(count * LEAST_BYTES))
        assert tensor.numel() == count * LEAST_BYTES
        del tensor
        gc.collect()
        assert pool.kept_bytes <= 5 * LEAST_BYTES
