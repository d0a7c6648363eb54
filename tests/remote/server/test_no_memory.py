"""A server whose machine has no memory for what a client sends refuses that, and goes on."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch

from remora.core.errors import Refused
from remora.remote.client.server import RemoteServer, connect
from remora.remote.server.server import Server

LEAST = 2**20


class Starved:
    """Memory, where ``short`` is set only for what is small."""

    def __init__(self) -> None:
        self.short = True

    def __call__(self, size: int) -> np.ndarray:
        if self.short and size >= LEAST:
            raise MemoryError
        return np.empty(size, dtype=np.uint8)


@pytest.fixture
def memory() -> Starved:
    return Starved()


@pytest.fixture(params=[True, False], ids=["shared", "socket"])
def remote(memory: Starved, request: pytest.FixtureRequest) -> Iterator[RemoteServer]:
    with (
        Server("tcp://127.0.0.1:0", allocate=memory) as server,
        connect(server.address, reconnect_s=0, share=request.param) as remote,
    ):
        yield remote


def test_weights_that_find_no_memory_are_refused_with_how_much_there_is(
    remote: RemoteServer, memory: Starved
) -> None:
    large, x = torch.nn.Linear(1024, 1024), torch.ones(1, 1024)
    channel = remote.channel
    with torch.no_grad():
        with pytest.raises(Refused, match=r"no memory there for 4\.0 MiB .* is free"):
            remote.load(large)(x)
        small = torch.nn.Linear(2, 2)
        assert remote.load(small)(torch.ones(1, 2)).equal(small(torch.ones(1, 2)))
        memory.short = False
        torch.testing.assert_close(remote.load(large)(x), large(x))
    assert remote.channel is channel, "over the same connection"


def test_a_call_whose_input_finds_no_memory_frees_what_it_was_to_free(
    remote: RemoteServer, memory: Starved
) -> None:
    from remora.remote.messages import Wanted

    model = remote.load(torch.nn.ReLU())
    (kept,) = model.wanted(Wanted("handle"), args=(torch.ones(4, 2),))
    assert remote.counts()["tensors"] == 1
    del kept
    with pytest.raises(Refused, match="no memory there"):
        model(torch.ones(LEAST, 2))
    assert remote.counts()["tensors"] == 0
    assert model(torch.ones(4, 2)).equal(torch.ones(4, 2))


def test_what_a_device_is_given_without_memory_has_failed_and_the_rest_goes_on(
    remote: RemoteServer, memory: Starved
) -> None:
    with remote.device() as device:

        def doubled(x: torch.Tensor) -> torch.Tensor:
            return x.to(device) * 2

        there = torch.ones(3, device=device)
        there.cpu()
        large = doubled(torch.ones(LEAST))
        there += large.sum()
        with pytest.raises(Refused, match="no memory there"):
            large[:3].cpu()
        with pytest.raises(Refused, match="no memory there"):
            there.cpu()
        assert doubled(torch.ones(3)).tolist() == [2, 2, 2]
        memory.short = False
        assert doubled(torch.ones(LEAST))[:3].tolist() == [2, 2, 2], "its plan has come"
