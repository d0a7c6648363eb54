"""The bill of a call: what it says crosses is what crosses."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from remora.core.errors import BadValue, UnknownName
from remora.remote.client.server import RemoteServer
from remora.remote.graph.residency import Residency


class Recurrent(nn.Module):
    """A cell: an input and a state in, an output and a state out."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.GRUCell(8, 16)
        self.head = nn.Linear(16, 4)

    def forward(self, x: torch.Tensor, h: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        h = self.cell(x, h)
        return self.head(h), h


def test_what_it_says_goes_and_comes_does(remote: RemoteServer) -> None:
    model, x, h = remote.load(Recurrent().eval()), torch.randn(300, 8), torch.randn(300, 16)
    bill = model.bill(x, h)
    before = remote.counted
    model(x, h)
    first = remote.counted
    model(x, h)
    then = remote.counted

    def together(*counted: int) -> int:
        return counted[1] - counted[0]

    sent = together(first.bytes_sent, then.bytes_sent) + together(
        first.shared_bytes_sent, then.shared_bytes_sent
    )
    received = together(first.bytes_received, then.bytes_received) + together(
        first.shared_bytes_received, then.shared_bytes_received
    )
    assert (
        bill.bytes_of(Residency.INPUT) == x.nbytes + h.nbytes <= sent <= x.nbytes + h.nbytes + 300
    )
    out = 300 * (4 + 16) * 4
    assert bill.bytes_of(Residency.OUTPUT) == out <= received <= out + 300
    uploaded = first.bytes_sent - before.bytes_sent + first.shared_bytes_sent
    weights = sum(weight.nbytes for weight in Recurrent().parameters())
    assert bill.bytes_of(Residency.WEIGHT) == weights <= uploaded
    assert bill.bytes_of(Residency.ACTIVATION) >= x.nbytes


def test_the_user_may_know_better(remote: RemoteServer) -> None:
    model, x, h = remote.load(Recurrent().eval()), torch.randn(3, 8), torch.randn(3, 16)
    bill = model.bill(x, h, overrides={"inputs.1": "state", "outputs.1": "state"})
    assert bill.bytes_of(Residency.STATE) == 2 * h.nbytes
    assert bill.bytes_of(Residency.INPUT) == x.nbytes
    with pytest.raises(UnknownName, match=r"unknown value 'inputs\.7'"):
        model.bill(x, h, overrides={"inputs.7": "state"})
    with pytest.raises(BadValue, match="cannot be of class"):
        model.bill(x, h, overrides={"outputs.0": "weight"})


def test_as_text_it_is_a_table(remote: RemoteServer) -> None:
    model = remote.load(nn.Linear(8, 16).eval())
    assert str(model.bill(torch.randn(2, 8))).splitlines() == [
        "weight          2 values      576 B  go up once",
        "state           0 values        0 B  stay with a session",
        "activation      0 values      192 B  are made and freed there, so many bytes at their "
        "fullest",
        "input           1 values       64 B  go up with every call",
        "output          1 values      128 B  come back from every call",
    ]
