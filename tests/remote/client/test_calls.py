"""Calls of a model on a server: what becomes of them when the server goes."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from remora.core.errors import CannotCapture, ServerLost
from remora.remote.client.graphs import MOST_SIZES
from remora.remote.client.server import RemoteServer, connect
from remora.remote.client.session import ATTEMPTS
from remora.remote.server.desk import Desk
from remora.remote.server.server import Server


class Ends:
    """Ends the connection that a request came over, so many times."""

    def __init__(self, times: int) -> None:
        self.left, self.seen = times, 0
        self._submit = Desk._submit

    def __get__(self, desk: Desk, kind: type[Desk]) -> Any:
        return lambda *work: self.submit(desk, *work)

    def submit(self, desk: Desk, *work: Any) -> None:
        self.seen += 1
        if self.left:
            self.left -= 1
            desk._link.close()
            return
        self._submit(desk, *work)


def test_a_call_that_was_lost_is_made_again(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer, x = torch.nn.Linear(3, 2).eval(), torch.randn(4, 3)
    ends = Ends(ATTEMPTS - 1)
    monkeypatch.setattr(Desk, "_submit", ends)
    with connect(server.address) as remote, torch.no_grad():
        assert torch.equal(remote.load(layer)(x), layer(x))
    assert ends.seen == ATTEMPTS


def test_a_call_that_is_lost_every_time_is_an_error_in_the_end(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    ends = Ends(10 * ATTEMPTS)
    monkeypatch.setattr(Desk, "_submit", ends)
    with connect(server.address) as remote:
        model = remote.load(torch.nn.Linear(3, 2).eval())
        with pytest.raises(ServerLost):
            model(torch.randn(4, 3))
    assert ends.seen == ATTEMPTS


class Tells(torch.nn.Module):
    """Tells equal constants apart."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(1))

    def forward(self, x: torch.Tensor, what: object) -> torch.Tensor:
        return x * self.scale * {bool: 2, int: 3, float: 5}[type(what)]


def test_constants_that_are_equal_and_of_other_types_are_other_calls(server: Server) -> None:
    x = torch.randn(4, 3)
    with connect(server.address) as remote, torch.no_grad():
        model = remote.load(Tells())
        for what, by in ((True, 2), (1, 3), (1.0, 5)):
            assert torch.equal(model(x, what), x * by)


def test_nested_arguments_are_a_call_too(server: Server) -> None:
    class Adds(Tells):
        def forward(self, pair: Any, what: object = 1) -> torch.Tensor:
            a, b = pair
            summed: torch.Tensor = (a + b["b"]) * self.scale
            return summed

    x = torch.randn(4, 3)
    with connect(server.address) as remote, torch.no_grad():
        assert torch.equal(remote.load(Adds())([x, {"b": x}]), x + x)


class Loops(torch.nn.Module):
    """Its graph is of one length, for it has a node for each place."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.arange(4.0))

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        total = torch.zeros(ids.shape[0])
        for index in range(ids.shape[1]):
            total = torch.sin(total + self.weight[ids[:, index]])
        return total


def test_a_model_that_decides_by_a_size_has_a_graph_for_each(remote: RemoteServer) -> None:
    module = Loops().eval()
    model = remote.load(module)
    for length in (3, 5, 3, 1, 5):
        for batch in (1, 2):
            ids = torch.randint(4, (batch, length))
            assert torch.allclose(model(ids), module(ids))


def test_it_does_not_capture_for_ever(remote: RemoteServer) -> None:
    model = remote.load(Loops().eval())
    for length in range(1, MOST_SIZES + 1):
        model(torch.zeros(2, length, dtype=torch.int64))

    with pytest.raises(CannotCapture, match=f"captured for {MOST_SIZES} of them; pad inputs"):
        model(torch.zeros(2, MOST_SIZES + 1, dtype=torch.int64))
