"""Networks that are slow, cut, stalled or half open, between a program and a server process."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest
import torch
from tests.remote.conftest import decoded_here, prompt
from tests.remote.processes.conftest import Serve, within

from remora.core.errors import DeadlineExceeded, ServerLost
from remora.remote.client.placed import Placed
from remora.remote.client.server import RemoteServer, connect
from remora.remote.client.session import RemoteSession
from remora.remote.wire.relay import Relay

pytestmark = pytest.mark.slow  # the server is a process; silence takes 20 s to be noticed


@pytest.fixture(scope="module")
def there(serve: Callable[..., Serve]) -> Serve:
    return serve("--threads", "1")


def session(
    server: RemoteServer, decoder: Placed, deadline_s: float | None = None
) -> RemoteSession:
    return RemoteSession(server, Placed(decoder.captured, decoder=True), deadline_s=deadline_s)


@pytest.mark.parametrize("fault", ["cut", "stall", "half_open"])
def test_tokens_go_on_when_the_network_does(
    there: Serve, decoder: Placed, language_model: torch.nn.Module, fault: str
) -> None:
    taken = []
    with (
        Relay(there.address) as relay,
        connect(str(relay.address), reconnect_s=40) as server,
        session(server, decoder) as one,
    ):
        one.prefill(prompt(5))
        for token in one.generate(200):
            taken.append(token)
            if len(taken) == 20:
                getattr(relay, fault)()
                threading.Timer(25 if fault != "cut" else 0.5, relay.resume).start()

    assert taken == decoded_here(language_model, prompt(5), 200)
    assert within(30, lambda: there.counts()["sessions"] == 0), "the server has noticed too"


@pytest.mark.parametrize("fault", ["stall", "half_open"])
def test_a_call_over_a_dead_network_ends_in_bounded_time(there: Serve, fault: str) -> None:
    with Relay(there.address) as relay, connect(str(relay.address), reconnect_s=0) as server:
        placed = server.load(torch.nn.Linear(3, 3))
        placed(torch.zeros(1, 3))
        hurried = server.load(torch.nn.Linear(3, 3), deadline_s=1.0)
        hurried(torch.zeros(1, 3))
        getattr(relay, fault)()

        began = time.monotonic()
        with pytest.raises(DeadlineExceeded):
            hurried(torch.zeros(1, 3))
        assert time.monotonic() - began < 3
        with pytest.raises(ServerLost):
            placed(torch.zeros(1, 3))
        assert time.monotonic() - began < 30


def test_a_slow_network_is_only_slow(
    there: Serve, decoder: Placed, language_model: torch.nn.Module
) -> None:
    with (
        Relay(there.address, bits_per_s=1e6, delay_ms=50) as relay,
        connect(str(relay.address), reconnect_s=0) as server,
        session(server, decoder) as one,
    ):
        one.prefill(prompt(5))
        tokens = list(one.generate(100))
        x = torch.randn(25_000)
        assert server.echo([x])[0].equal(x)  # 0.8 s each way

    assert tokens == decoded_here(language_model, prompt(5), 100)
    assert one.recoveries == 0
