"""A captured graph and where it lies: on a server, over the connection that is there now."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence

import msgspec
import torch

from remora.remote.graph.capture import Captured
from remora.remote.messages import Load, Offer, Upload
from remora.remote.wire.channel import Channel

UPLOADED_BYTES = 64 * 2**20
"""Weights that go up in one request: few round trips, and a cut costs little."""


class Placed:
    """A graph that any connection can be asked to run. Thread-safe.

    What a server has of it belongs to a connection; over a new one it is loaded again, and weights
    that the server still holds are not sent again.
    """

    def __init__(self, captured: Captured, *, decoder: bool = False, positions: int = 0) -> None:
        self.captured = captured
        self._load = Load(decoder, positions)
        self._channel: Channel | None = None
        self._name = ""
        self._guard = threading.Lock()

    def name_over(self, channel: Channel) -> str:
        """The graph's name for requests over ``channel``, loading it where it is not yet.

        Raises:
            Refused: the server does not take it.
            ServerLost: the connection ended; what was uploaded by then stays there for next time.
        """
        with self._guard:
            if self._channel is not channel:
                self._name = _load(channel, self.captured, self._load)
                self._channel = channel
            return self._name


def upload(channel: Channel, tensors: Mapping[str, torch.Tensor]) -> None:
    """Send those of ``tensors``, by digest, that the server lacks."""
    lacking = channel.call(Offer(tuple(tensors))).message.digests
    for digests in _pieces(lacking, tensors):
        channel.call(Upload(tuple(digests)), [tensors[digest].to("cpu") for digest in digests])


def _load(channel: Channel, captured: Captured, load: Load) -> str:
    upload(channel, captured.tensors)
    graph = bytearray(msgspec.msgpack.encode(captured.graph))
    loaded = channel.call(load, [torch.frombuffer(graph, dtype=torch.uint8)])
    name: str = loaded.message.model
    return name


def _pieces(digests: Sequence[str], tensors: Mapping[str, torch.Tensor]) -> Iterator[Sequence[str]]:
    """``digests`` in pieces of some :data:`UPLOADED_BYTES`."""
    piece: list[str] = []
    size = 0
    for digest in digests:
        piece.append(digest)
        size += tensors[digest].nbytes
        if size >= UPLOADED_BYTES:
            yield piece
            piece, size = [], 0
    if piece:
        yield piece
