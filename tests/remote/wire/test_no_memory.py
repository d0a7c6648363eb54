"""What arrives and finds no memory is skipped: the connection stays, and who asked is told."""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable

import numpy as np
import pytest
import torch
from tests.remote.wire.conftest import Served
from tests.remote.wire.spoken import Echo, as_error, is_last, joined

from remora.core.errors import Refused
from remora.remote.wire import pool
from remora.remote.wire.arrived import NoMemory
from remora.remote.wire.channel import Channel
from remora.remote.wire.pool import LEAST_BYTES, Pool

LARGE = 3 * 2**20 + 77


class Short:
    """Has memory for what is smaller than ``most`` bytes, and counts what it was asked for."""

    def __init__(self, most: int) -> None:
        self.most, self.asked = most, list[int]()

    def __call__(self, size: int) -> np.ndarray:
        self.asked.append(size)
        if size >= self.most:
            raise MemoryError
        return np.empty(size, dtype=np.uint8)


def test_what_has_no_memory_is_skipped_and_what_follows_arrives() -> None:
    small, large = torch.arange(9), torch.ones(LARGE, dtype=torch.uint8)
    allocate = Short(2**20)
    with joined(allocate=allocate) as (one, other):

        def send() -> None:
            one.send(1, Echo("lost"), [small, large, small + 1])
            one.send(2, Echo("whole"), [small])

        sender = threading.Thread(target=send)
        sender.start()
        lost, whole = other.receive(), other.receive()
        sender.join()

    assert isinstance(lost.message, NoMemory)
    assert lost.message.message == Echo("lost")
    assert lost.message.wanted_bytes == LARGE
    assert lost.message.free_bytes > 0
    assert lost.request == 1
    assert [tensor.is_meta for tensor in lost.tensors] == [False, True, False]
    assert torch.equal(lost.tensors[2], small + 1), "what could be held is right, behind it too"
    assert lost.tensors[1].nbytes == LARGE
    assert (whole.message, whole.tensors[0].tolist()) == (Echo("whole"), small.tolist())
    assert max(allocate.asked) == LARGE, "nothing else was taken for it"


@pytest.mark.parametrize("kind", ["tcp", "tls", "shared"])
def test_a_client_without_memory_for_the_answer_is_told_and_goes_on(
    served: Callable[..., Served], kind: str
) -> None:
    made = served(kind)
    link = made.link(allocate=Short(2**20))
    with Channel(link, is_last=is_last, as_error=as_error) as channel:
        answer = [torch.ones(LARGE, dtype=torch.uint8)]
        if kind != "shared":  # there it is lent, and takes no memory
            with pytest.raises(Refused, match=r"no memory here for 3\.0 MiB .* free"):
                channel.call(Echo("x"), answer)
        assert channel.call(Echo("y"), [torch.ones(3)]).tensors[0].tolist() == [1, 1, 1]


def test_places_in_shared_memory_are_given_back_where_there_is_no_memory_for_a_copy(
    served: Callable[..., Served],
) -> None:
    made = served("shared", allocate=Short(2**20))
    link = made.link()
    with Channel(link, is_last=is_last, as_error=as_error) as channel:
        with pytest.raises(Refused, match="told"):
            channel.call(Echo("x"), [torch.ones(LARGE, dtype=torch.uint8)])
        assert channel.call(Echo("y"), [torch.ones(3)]).tensors[0].tolist() == [1, 1, 1]
        assert link._arena is not None
        assert link._arena.lent_bytes == 0


def test_a_pool_lets_go_of_what_it_keeps_before_it_has_no_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    memory = Pool()
    memory(LEAST_BYTES)  # is back at once, and kept
    assert memory.kept_bytes
    left = [memory.kept_bytes]
    pages = pool._pages

    def starved(size: int) -> object:
        if memory.kept_bytes:
            raise OSError(errno.ENOMEM, "Cannot allocate memory")
        left.append(memory.kept_bytes)
        return pages(size)

    monkeypatch.setattr(pool, "_pages", starved)
    assert len(memory(2 * LEAST_BYTES)) == 2 * LEAST_BYTES
    assert left[-1] == 0


def test_a_pool_without_memory_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def starved(size: int) -> object:
        raise OSError(errno.ENOMEM, "Cannot allocate memory")

    monkeypatch.setattr(pool, "_pages", starved)
    with pytest.raises(MemoryError):
        Pool()(LEAST_BYTES)
