"""What every order of turns owes those who ask: fair ones, and those of each policy."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
import torch
from tests.remote.conftest import decoded_here, decoder, language_model, prompt
from tests.remote.processes.conftest import within
from tests.remote.segment.made import FETCH_X, PUT_X
from tests.remote.server.test_segments import KEEP, READ, TENSOR, ask

from remora.core.errors import DeadlineExceeded, Full, Refused, RemoteError
from remora.remote.client.placed import Placed
from remora.remote.client.server import RemoteServer, connect
from remora.remote.client.session import RemoteSession
from remora.remote.messages import Compute
from remora.remote.segment.plan import Plan
from remora.remote.server.house import Quotas
from remora.remote.server.server import Server
from remora.share.policies.contract import Priority
from remora.share.policies.registry import names, parse_choice

__all__ = ["decoder", "language_model"]  # fixtures
SLICES = "priority+slicing:turnaround=0.5ms,min-wait=0,unsliced-after=1000s,floor=20%"
KEEP_AND_READ = Plan((PUT_X, FETCH_X), (0, 1, 0, -1, 0), ())
CLASSES = [Priority.HIGH, Priority.BEST_EFFORT]


QUICK = ["fair", "priority+min-wait"]
SLOW = [SLICES, *(name for name in names() if name not in QUICK)]
ALL = [*QUICK, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)]


@pytest.fixture(scope="module", params=ALL)
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    policy = None if request.param == "fair" else parse_choice(request.param)
    quotas = Quotas(chunk_tokens=8, waiting=6)
    with Server("tcp://127.0.0.1:0", quotas=quotas, policy=policy) as server:
        yield server


@pytest.fixture(params=CLASSES, ids=str)
def remote(server: Server, request: pytest.FixtureRequest) -> Iterator[RemoteServer]:
    with client(server, request.param) as remote:
        yield remote
    assert within(30, lambda: server.house.engine.waiting == 0)


def client(server: Server, priority: Priority) -> RemoteServer:
    knows_classes = server.house.clients.reason_against(priority) is None
    said = priority if knows_classes else None
    return connect(server.address, reconnect_s=0, priority=said)


class Network(torch.nn.Module):
    """Short operators and long ones, some with several outputs."""

    def __init__(self, size: int = 64, layers: int = 3) -> None:
        super().__init__()
        self.layers = torch.nn.ModuleList(torch.nn.Linear(size, size) for _ in range(layers))
        self.norm = torch.nn.LayerNorm(size)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            first, second = torch.relu(layer(self.norm(x))).chunk(2, dim=-1)
            x = torch.cat([second, first], dim=-1) + x
        return x.softmax(-1)


LONG = Network(1536, 4).eval()
LONG_INPUT = torch.ones(2048, 1536)
"""Half a second or so; a tenth of it for a tenth of the rows."""


def test_calls_give_what_they_give_here(remote: RemoteServer) -> None:
    network, x = Network().eval(), torch.randn(5, 64)
    there = remote.load(network)
    with torch.no_grad():
        for rows in (5, 5, 3):  # known lengths, then another shape
            assert torch.equal(there(x[:rows]), network(x[:rows]))


def test_long_operators_give_what_they_give_here(remote: RemoteServer) -> None:
    network, x = Network(512).eval(), torch.randn(1024, 512)
    there = remote.load(network)
    with torch.no_grad():
        here = network(x)
        for _ in range(4):
            assert torch.equal(there(x), here)


def test_sessions_say_what_they_say_here(
    remote: RemoteServer,
    language_model: torch.nn.Module,
    decoder: Placed,
) -> None:
    first, second = prompt(20, seed=1), prompt(3, seed=2)
    with (
        RemoteSession(remote, decoder, deadline_s=60) as one,
        RemoteSession(remote, decoder, deadline_s=60) as other,
    ):
        one.prefill(first)
        other.prefill(second)
        pairs = list(zip(one.generate(6), other.generate(6), strict=True))
        one.rewind(20)
        again = list(one.generate(4))
    assert [pair[0] for pair in pairs] == decoded_here(language_model, first, 6)
    assert [pair[1] for pair in pairs] == decoded_here(language_model, second, 6)
    assert again == decoded_here(language_model, first, 4)


def test_what_a_client_asks_in_order_is_done_in_order(remote: RemoteServer) -> None:
    for number in range(20):
        ask(remote, KEEP, [TENSOR + number], first=1)
        assert torch.equal(ask(remote, READ, inputs=(1,))[0], TENSOR + number)
        remote.channel.call(Compute(freed=(1,)))


def test_several_clients_all_get_theirs(server: Server) -> None:
    network, x = Network().eval(), torch.randn(4, 64)
    with torch.no_grad():
        here = network(x)
    wrong: list[object] = []

    def use(there: Callable[[torch.Tensor], torch.Tensor]) -> None:
        try:
            wrong.extend(None for _ in range(10) if not torch.equal(there(x), here))
        except Exception as error:  # whatever it is, the test is to fail by it
            wrong.append(error)

    with ExitStack() as stack:
        clients = [stack.enter_context(client(server, each)) for each in CLASSES * 2]
        models = [each.load(network) for each in clients]
        for model in models:
            model(x)  # torch captures one at a time
        threads = [threading.Thread(target=use, args=(model,)) for model in models]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    assert not wrong


def test_what_fails_ends_alone(remote: RemoteServer) -> None:
    network = Network().eval()
    there = remote.load(network)
    there(torch.randn(2, 64))
    with pytest.raises(Refused, match="no tensor 77 here"):
        ask(remote, READ, inputs=(77,))
    with torch.no_grad():
        x = torch.randn(2, 64)
        assert torch.equal(there(x), network(x))


def test_what_nobody_waits_for_is_dropped(server: Server, remote: RemoteServer) -> None:
    there = remote.load(LONG, deadline_s=0.05)
    with pytest.raises(DeadlineExceeded):
        for _ in range(20):
            there(LONG_INPUT)
    assert within(30, lambda: server.house.engine.waiting == 0)
    assert torch.equal(ask(remote, KEEP_AND_READ, [TENSOR])[0], TENSOR)


def test_too_many_requests_are_refused_and_the_rest_is_done(
    server: Server, remote: RemoteServer
) -> None:
    there = remote.load(LONG)
    there(LONG_INPUT[:600])
    answers: list[object] = []

    def call() -> None:
        try:
            answers.append(there(LONG_INPUT[:600]))
        except RemoteError as error:
            answers.append(error)

    threads = [threading.Thread(target=call) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    full = [answer for answer in answers if isinstance(answer, Full)]
    done = [answer for answer in answers if isinstance(answer, torch.Tensor)]
    assert len(full) + len(done) == 10
    assert 1 <= len(full) <= 4
    assert "6 requests wait already" in str(full[0])


def test_a_client_that_goes_leaves_nothing_behind(server: Server) -> None:
    for priority in CLASSES:
        remote = client(server, priority)
        ask(remote, KEEP, [TENSOR], first=1)
        there = remote.load(LONG)
        there(LONG_INPUT)
        asking = _asking(server, there)
        remote.close()
        for thread in asking:
            thread.join(10)
        assert within(30, lambda: server.house.engine.waiting == 0)
        assert server.house.room.held_bytes == 0


def _asking(server: Server, there: Callable[[torch.Tensor], object]) -> list[threading.Thread]:
    """Calls in vain, of which one is at work and another waits."""
    threads = [threading.Thread(target=_called_in_vain, args=(there,)) for _ in range(3)]
    for thread in threads:
        thread.start()
    assert within(5, lambda: server.house.engine.waiting >= 1)
    return threads


def _called_in_vain(there: Callable[[torch.Tensor], object]) -> None:
    with pytest.raises(RemoteError):
        there(LONG_INPUT)


@pytest.mark.parametrize("policy", ALL)
def test_a_busy_server_closes_at_once(policy: str) -> None:
    server = Server("tcp://127.0.0.1:0", policy=None if policy == "fair" else parse_choice(policy))
    remote = connect(server.address, reconnect_s=0)
    there = remote.load(LONG)
    there(LONG_INPUT)
    asking = _asking(server, there)
    began = time.monotonic()
    server.close()
    assert time.monotonic() - began < 20  # one unit, or the time that finding out how to cut takes
    for thread in asking:
        thread.join(10)
    remote.close()
