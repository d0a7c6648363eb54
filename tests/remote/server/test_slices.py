"""Best-effort operators in slices on a server: they give the same bits, and others get between."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from tests.remote.server.test_segments import ask

from remora.core.errors import Refused
from remora.remote.client.server import RemoteServer, connect
from remora.remote.segment.plan import FETCH, PUT, Made, Plan, Seen, Signature
from remora.remote.server.server import Server
from remora.share.policies.registry import parse_choice

POLICY = parse_choice("priority+slicing:turnaround=1ms,min-wait=0,unsliced-after=1000s")
SIZE = 1024
SQUARE = Made("float32", (SIZE, SIZE), (SIZE, 1))
SEEN = Seen("float32", (SIZE, SIZE), (SIZE, 1))
PUT_IT, FETCH_IT = Signature(PUT, (), (), (SQUARE,)), Signature(FETCH, (SEEN,))
MULTIPLY = Signature("aten.mm.default", (SEEN, SEEN), (), (SQUARE,))
ADD_IN_PLACE = Signature("aten.add_.Tensor", (SEEN, SEEN))
PRODUCT = Plan(
    (PUT_IT, MULTIPLY, ADD_IN_PLACE, FETCH_IT), (0, 1, 0, 0, 2, 1, 0, 3, 1, -1, 0, -1, 1), ()
)
"""x @ x + x, and nothing stays."""

pytestmark = pytest.mark.slow  # how operators are cut is found by running them many times


class Layers(torch.nn.Module):
    """Operators of some milliseconds, such as have one output and such as have several."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(SIZE, SIZE)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        first, second = self.layer(x).chunk(2, dim=1)
        return torch.cat([second.relu(), first], dim=1).softmax(-1)


@pytest.fixture
def server() -> Iterator[Server]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with Server("tcp://127.0.0.1:0", policy=POLICY) as server:
        with connect(server.address, priority="high") as high:
            model = high.load(torch.nn.Linear(2, 2))
            model(torch.ones(1, 2))  # from now on somebody of high priority may come at any time
        yield server
    torch.set_num_threads(threads)


@pytest.fixture
def remote(server: Server) -> Iterator[RemoteServer]:
    with connect(server.address, reconnect_s=0) as remote:
        yield remote


def units(remote: RemoteServer) -> int:
    """Of the last client."""
    return max(remote.clients(), key=lambda counts: counts.number).units


def test_a_segment_in_slices_gives_the_same_bits(remote: RemoteServer) -> None:
    x = torch.randn(SIZE, SIZE)
    with torch.inference_mode():
        here = torch.mm(x, x).add_(x)
    came: list[int] = []
    for _ in range(4):
        before = units(remote) if came else 0
        assert torch.equal(ask(remote, PRODUCT, [x])[0], here)
        came.append(units(remote) - before)
    assert came[-1] > len(PRODUCT.signatures) + 2  # more than one for each operator


def test_a_graph_in_slices_gives_the_same_bits(remote: RemoteServer) -> None:
    layers, x = Layers().eval(), torch.randn(SIZE, SIZE)
    there = remote.load(layers)
    with torch.inference_mode():
        here = layers(x)
    came: list[int] = []
    for _ in range(4):
        before = units(remote) if came else 0
        assert torch.equal(there(x), here)
        came.append(units(remote) - before)
    assert came[-1] > 8 + 2


def test_a_slice_that_fails_fails_its_request_alone(
    server: Server, remote: RemoteServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    layers, x = Layers().eval(), torch.randn(SIZE, SIZE)
    there = remote.load(layers)
    for _ in range(3):
        there(x)

    def fails(pieces: object, begin: int, end: int) -> None:
        raise RuntimeError("no memory left")

    with monkeypatch.context() as patched:
        patched.setattr("remora.share.slicing.slicing.Pieces.run", fails)
        with pytest.raises(Refused, match="no memory left"):
            there(x)
        with pytest.raises(Refused, match="no memory left"):
            ask(remote, PRODUCT, [x]), ask(remote, PRODUCT, [x])
    assert server.house.engine.waiting == 0
    with torch.inference_mode():
        assert torch.equal(there(x), layers(x))


def test_no_cut_is_looked_for_while_the_device_is_wanted_and_known_ones_are_used(
    server: Server, remote: RemoteServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, wanted = torch.randn(SIZE, SIZE), [True]
    watch = server.house.engine.turns._course.__self__._cuts.watch  # type: ignore[attr-defined]
    monkeypatch.setattr(watch, "is_wanted", lambda: wanted[0])
    with torch.inference_mode():
        here = torch.mm(x, x).add_(x)
    came: list[int] = []
    for is_wanted in (True, True, True, False, True):
        wanted[0] = is_wanted
        before = units(remote) if came else 0
        assert torch.equal(ask(remote, PRODUCT, [x])[0], here)
        came.append(units(remote) - before)
    assert max(came[:3]) <= len(PRODUCT.signatures) + 2
    assert came[4] > len(PRODUCT.signatures) + 2
