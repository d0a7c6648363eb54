"""A captured graph and where it lies: on servers, over the connections that are there now."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec
import torch
from torch.utils import _pytree as pytree

from remora.remote.client.over_each import OverEach
from remora.remote.graph.capture import Captured
from remora.remote.messages import Load, Offer, Upload
from remora.remote.wire.channel import Channel

UPLOADED_BYTES = 64 * 2**20
"""Weights that go up in one request: few round trips, and a cut costs little."""


class Placed:
    """A graph that any connection can be asked to run. Thread-safe.

    What a server has of it belongs to a connection; over another one it is loaded as well, and
    weights that the server holds already are not sent again.
    """

    def __init__(self, captured: Captured, *, decoder: bool = False, positions: int = 0) -> None:
        self.captured = captured
        self._load = Load(decoder, positions)
        self._names = OverEach(lambda channel: _load(channel, captured, self._load))

    def name_over(self, channel: Channel) -> str:
        """The graph's name for requests over ``channel``, loading it where it is not yet.

        Raises:
            Refused: the server does not take it.
            ServerLost: the connection ended; what was uploaded by then stays there for next time.
        """
        return self._names.over(channel)

    def takes(self, tensors: Sequence[torch.Tensor]) -> bool:
        """Whether the graph takes ``tensors`` of their sizes, some of which a model may fix."""
        return all(
            dim in (-1, size)
            for value, tensor in zip(self.captured.graph.inputs, tensors, strict=True)
            for dim, size in zip(value.dims, tensor.shape, strict=True)
        )

    @property
    def context(self) -> int:
        """As :attr:`Listens.context`: its outputs."""
        return len(self.captured.graph.outputs)

    def whole(self, tensors: Sequence[torch.Tensor]) -> Any:
        """What the model returns: ``tensors`` that came, and the constants of its graph."""
        given = iter(tensors)
        leaves = [
            output
            if output is None or isinstance(output, bool | int | float | str)
            else next(given)
            for output in self.captured.graph.outputs
        ]
        return pytree.tree_unflatten(leaves, self.captured.outputs)

    def line(self, node: int) -> str:
        """The line of the model's code that a node comes from."""
        return self.captured.lines[node] if node < len(self.captured.lines) else ""


def upload(channel: Channel, weights: Mapping[str, torch.Tensor]) -> None:
    """Send the ``weights``, by digest, that the server lacks."""
    lacking = channel.call(Offer(tuple(weights))).message.digests
    for digests in _pieces(lacking, weights):
        channel.call(Upload(tuple(digests)), [weights[digest].to("cpu") for digest in digests])


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
