"""The arena: aligned buffers, a fixed number of them, handed from thread to thread."""

from __future__ import annotations

import threading

import pytest
import torch

from remora.checkpoint.staging import Arena, Buffer
from remora.checkpoint.storage.contract import BLOCK

SECONDS = 20.0


def taken(arena: Arena) -> Buffer:
    buffer = arena.take()
    assert buffer is not None
    return buffer


def test_buffers_lie_where_direct_io_wants_them_and_apart() -> None:
    arena = Arena(3, 2 * BLOCK)
    assert arena.nbytes == 6 * BLOCK
    buffers = [taken(arena) for _ in range(3)]
    for number, buffer in enumerate(buffers):
        assert buffer.address % BLOCK == 0
        assert buffer.address == buffer.memory.data_ptr()
        assert len(buffer.view) == buffer.memory.numel() == 2 * BLOCK
        buffer.memory.fill_(number + 1)
    for number, buffer in enumerate(buffers):
        assert bytes(buffer.view) == bytes([number + 1]) * 2 * BLOCK


def test_whoever_takes_one_too_many_waits_for_one_to_come_back() -> None:
    arena = Arena(1, BLOCK)
    first, got = taken(arena), threading.Event()
    second: list[Buffer | None] = []

    def wait() -> None:
        second.append(arena.take())
        got.set()

    thread = threading.Thread(target=wait)
    thread.start()
    assert not got.wait(0.05)
    arena.give_back(first)
    thread.join(SECONDS)
    assert second == [first]


def test_closing_lets_go_of_whoever_waits() -> None:
    arena = Arena(1, BLOCK)
    taken(arena)
    second: list[Buffer | None] = []
    threads = [threading.Thread(target=lambda: second.append(arena.take())) for _ in range(3)]
    for thread in threads:
        thread.start()
    arena.close()
    for thread in threads:
        thread.join(SECONDS)
    assert second == [None, None, None]


@pytest.mark.cuda
def test_pinned_buffers_are_pinned_and_aligned() -> None:
    arena = Arena(2, 2 * BLOCK, pinned=True)
    for buffer in (taken(arena), taken(arena)):
        assert buffer.memory.is_pinned()
        assert buffer.address % BLOCK == 0
    assert torch.cuda.is_available()
