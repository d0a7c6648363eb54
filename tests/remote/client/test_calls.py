"""Calls of a model on a server: what becomes of them when the server goes."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from remora.core.errors import ServerLost
from remora.remote.client.server import connect
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
