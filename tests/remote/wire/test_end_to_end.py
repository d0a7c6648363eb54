"""A client and a server in one process: what is sent comes back."""

from __future__ import annotations

import threading

import msgspec
import torch

from remora.core.errors import LinkLost
from remora.remote.wire.channel import Channel
from remora.remote.wire.connect import connect
from remora.remote.wire.link import Link
from remora.remote.wire.listener import Listener


class Echo(msgspec.Struct, frozen=True, tag="echo"):
    text: str


class Count(msgspec.Struct, frozen=True, tag="count"):
    until: int


class Number(msgspec.Struct, frozen=True, tag="number"):
    number: int
    last: bool


def serve(link: Link) -> None:
    while True:
        try:
            arrived = link.receive()
        except LinkLost:
            return
        if isinstance(arrived.message, Echo):
            link.send(arrived.request, arrived.message, arrived.tensors)
        elif isinstance(arrived.message, Count):
            for number in range(arrived.message.until):
                link.send(arrived.request, Number(number, number + 1 == arrived.message.until))


def test_echo_and_stream() -> None:
    threads = threading.active_count()
    with Listener("tcp://127.0.0.1:0", Echo | Count, serve) as listener:
        link = connect(listener.address, Echo | Number)
        with Channel(link, is_last=lambda message: message.last) as channel:
            tensors = [torch.randn(3, 4), torch.arange(10_000_000, dtype=torch.int64)]
            arrived = channel.call(Echo("hello"), tensors)
            assert arrived.message == Echo("hello")
            assert all(map(torch.equal, arrived.tensors, tensors))
            numbers = [each.message.number for each in channel.stream(Count(5))]
            assert numbers == [0, 1, 2, 3, 4]
    assert threading.active_count() == threads
