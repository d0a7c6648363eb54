"""Networks that are cut, slow, stalled or half open: errors of their kind, in bounded time."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest
import torch
from tests.remote.wire.conftest import Served
from tests.remote.wire.spoken import (
    QUICK,
    Count,
    Echo,
    Requests,
    Silence,
    as_error,
    is_last,
    within,
)  # fmt: skip

from remora.core.errors import LinkLost, ServerLost
from remora.remote.wire.channel import Channel
from remora.remote.wire.frames import Kind, pack
from remora.remote.wire.link import Link, Patience
from remora.remote.wire.relay import Relay

Serve = Callable[..., Served]
LARGE = torch.zeros(32 * 2**20, dtype=torch.uint8)


@contextlib.contextmanager
def relayed(
    served: Served, patience: Patience = QUICK, **line: float
) -> Iterator[tuple[Relay, Channel]]:
    with Relay(served.listener.address, **line) as relay:
        link = served.link(relay.address, patience=patience)
        with Channel(link, is_last=is_last, as_error=as_error) as channel:
            yield relay, channel


def raises_in_time(does: Callable[[], object]) -> None:
    began = time.monotonic()
    with pytest.raises(ServerLost):
        does()
    assert time.monotonic() - began < 2


@pytest.mark.parametrize("fault", ["cut", "stall", "half_open"])
@pytest.mark.parametrize("moment", ["waiting", "sending", "streaming", "idle"])
def test_a_network_that_fails_is_noticed_at_both_ends(
    served: Serve, fault: str, moment: str
) -> None:
    made = served(patience=QUICK)
    with relayed(made, bits_per_s=200e6) as (relay, channel):
        channel.call(Echo("all is well"))
        timer = threading.Timer(0.1, getattr(relay, fault))
        timer.start()
        if moment == "waiting":
            raises_in_time(lambda: channel.call(Silence()))
        elif moment == "sending":
            raises_in_time(lambda: channel.call(Echo("x"), [LARGE]))
        elif moment == "streaming":
            raises_in_time(lambda: list(channel.stream(Count(10_000, pause_s=0.001))))
        else:
            assert within(3, lambda: channel._lost is not None)
        timer.join()
        assert within(3, lambda: not made.listener._threads), "the server has noticed too"
        raises_in_time(lambda: channel.call(Echo("x")))


@pytest.mark.slow  # it lives by fractions of a second
def test_slow_is_not_dead(served: Serve) -> None:
    patience = Patience(heartbeat_s=0.1, silence_s=0.55)
    made = served(patience=patience)
    with relayed(made, patience, bits_per_s=4e6) as (_, channel):
        arrived = channel.call(Echo("x"), [torch.zeros(100_000)])  # 0.8 s each way
        assert arrived.tensors[0].numel() == 100_000


def test_small_messages_do_not_wait_for_a_large_one_on_a_slow_line(served: Serve) -> None:
    made = served()
    with relayed(made, bits_per_s=50e6, delay_ms=1) as (_, channel):
        upload = threading.Thread(
            target=channel.call, args=(Echo("x"), [torch.zeros(1_500_000)])
        )  # 1 s each way
        upload.start()
        time.sleep(0.2)
        waits = []
        for _ in range(5):
            began = time.monotonic()
            channel.call(Echo("token"))
            waits.append(time.monotonic() - began)
        assert upload.is_alive()
        upload.join()
        assert sorted(waits)[2] < 0.15


def test_a_message_cut_anywhere_ends_the_link() -> None:
    one, other = socket.socketpair()
    link = Link(one, Requests)
    link.send(1, Echo("x"), [torch.zeros(20_000), torch.zeros(3)])
    whole = b""
    while len(whole) < link.counted.bytes_sent:
        whole += other.recv(2**20)
    link.close()
    other.close()
    for length in [*range(120), len(whole) // 2, len(whole) - 1]:
        one, other = socket.socketpair()
        link = Link(one, Requests)
        other.sendall(whole[:length])
        other.close()
        with pytest.raises(LinkLost, match="the other end closed"):
            link.receive_within(5)
        link.close()


def test_a_server_that_sends_garbage_is_lost(served: Serve) -> None:
    made = served()
    with Channel(made.link(), is_last=is_last) as channel:
        channel.call(Echo("x"))
        server = made.server.links[0]
        timer = threading.Timer(0.05, lambda: server._transport.write([memoryview(b"x" * 99)]))
        timer.start()
        with pytest.raises(ServerLost, match="what arrived is no frame: it begins with b'xx'"):
            channel.call(Silence())
        timer.join()


def test_a_client_that_sends_garbage_harms_nobody_else(served: Serve) -> None:
    made = served()
    with Channel(made.link(), is_last=is_last) as channel:
        other = made.link()
        other._transport.write([memoryview(pack(Kind.DATA, 9, 99, 0, 5))])
        with pytest.raises(LinkLost):
            other.receive_within(5)
        assert channel.call(Echo("x")).message == Echo("x")


def test_a_stalled_line_that_resumes_in_time_loses_nothing(served: Serve) -> None:
    made = served()
    with relayed(made, bits_per_s=200e6) as (relay, channel):
        relay.stall()
        timer = threading.Timer(0.1, relay.resume)
        timer.start()
        assert channel.call(Echo("x"), [torch.ones(100_000)]).tensors[0].sum() == 100_000
        timer.join()
