"""Outputs that stay on the server and go into other calls: nothing of them crosses."""

from __future__ import annotations

import gc
import time
from typing import Any

import pytest
import torch
from tests.remote.client.test_bill import Recurrent

from remora.core.errors import Refused, ServerLost
from remora.remote.client.kept import RemoteTensor
from remora.remote.client.server import RemoteServer, connect
from remora.remote.messages import Wanted
from remora.remote.server.house import Quotas
from remora.remote.server.server import Server

HANDLE = Wanted("handle")


@torch.no_grad()
def test_a_state_that_stays_there_gives_what_it_gives_here(remote: RemoteServer) -> None:
    cell = Recurrent().eval()
    model = remote.load(cell)
    here: Any = torch.zeros(2, 16)
    there: Any = here
    for seed in range(5):
        x = torch.randn(2, 8, generator=torch.Generator().manual_seed(seed))
        expected, here = cell(x, here)
        y, there = model.wanted(Wanted(), HANDLE, args=(x, there))
        assert torch.equal(y, expected)
    assert repr(there) == "RemoteTensor(float32 [2, 16])"
    assert torch.equal(there.fetch(), here)


@torch.no_grad()
def test_nothing_of_it_crosses(remote: RemoteServer) -> None:
    wide = torch.nn.Linear(8, 100_000).eval()
    narrow = torch.nn.Linear(100_000, 8).eval()
    x = torch.randn(2, 8)
    first, second = remote.load(wide), remote.load(narrow)
    (kept,) = first.wanted(HANDLE, args=(x,))
    second(kept)
    before = remote.counted
    (kept,) = first.wanted(HANDLE, args=(x,))
    y = second(kept)
    after = remote.counted
    assert torch.allclose(y, narrow(wide(x)), atol=1e-4)
    assert (
        after.bytes_sent + after.bytes_received - before.bytes_sent - before.bytes_received < 1500
    )


def test_what_is_dropped_here_is_freed_there(remote: RemoteServer) -> None:
    model, x = remote.load(torch.nn.Linear(8, 1000).eval()), torch.randn(2, 8)
    (one,) = model.wanted(HANDLE, args=(x,))
    (other,) = model.wanted(HANDLE, args=(x,))
    assert remote.counts()["tensors"] == 2
    assert remote.counts()["tensors_bytes"] == 2 * 2 * 1000 * 4
    del one
    gc.collect()
    model(x)
    assert remote.counts()["tensors"] == 1
    other.free()
    other.free()
    assert remote.counts()["tensors_bytes"] == 0
    with pytest.raises(Refused, match="there is no tensor"):
        other.fetch()


def test_it_belongs_to_its_connection(server: Server) -> None:
    model = torch.nn.Linear(8, 8).eval()
    with connect(server.address) as one, connect(server.address) as other:
        (kept,) = one.load(model).wanted(HANDLE, args=(torch.randn(2, 8),))
        stolen = RemoteTensor(other.channel, kept.number, kept.dtype, kept.shape)
        with pytest.raises(Refused, match="there is no tensor"):
            stolen.fetch()
        with pytest.raises(Refused, match="there is no tensor"):
            other.load(model)(stolen)
        stolen.number = 0
        assert torch.equal(kept.fetch(), kept.fetch())
    for _ in range(200):
        if not server.house.counts()["tensors"]:
            break
        time.sleep(0.01)
    assert server.house.counts()["tensors_bytes"] == 0


def test_a_lost_server_takes_it_along(server: Server) -> None:
    with connect(server.address) as remote:
        model = remote.load(torch.nn.Linear(8, 8).eval())
        (kept,) = model.wanted(HANDLE, args=(torch.randn(2, 8),))
        remote.channel.link.close()
        with pytest.raises(ServerLost, match="what was kept there is gone"):
            model(kept)
        model(torch.randn(2, 8))  # goes on over another connection
        with pytest.raises(ServerLost):
            model(kept)


def test_no_more_is_kept_than_there_is_room_for() -> None:
    with (
        Server("tcp://127.0.0.1:0", quotas=Quotas(tensors_bytes=10_000)) as server,
        connect(server.address) as remote,
    ):
        model = remote.load(torch.nn.Linear(8, 1000).eval())
        (kept,) = model.wanted(HANDLE, args=(torch.randn(1, 8),))
        with pytest.raises(Refused, match="no room for"):
            model.wanted(HANDLE, args=(torch.randn(2, 8),))
        assert remote.counts()["tensors"] == 1
        del kept


def test_a_kept_input_that_does_not_fit_is_refused(remote: RemoteServer) -> None:
    model = remote.load(torch.nn.Linear(8, 8).eval())
    (kept,) = model.wanted(HANDLE, args=(torch.randn(2, 8),))
    pretends = RemoteTensor(remote.channel, kept.number, torch.float32, (2, 9))
    with pytest.raises(Exception, match="9"):
        model(pretends)
    pretends.number = 0
