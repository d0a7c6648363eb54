"""A language model on a server of ours, and what goes up again before each request to it.

What a server is not to keep is sent with every request, as it would be to one that cannot keep it:
the weights, which it hashes again, and the graph, which it checks and plans again.
"""

from __future__ import annotations

import torch

from remora.remote.client.placed import Placed
from remora.remote.client.server import RemoteServer
from remora.remote.client.session import RemoteSession
from remora.remote.graph.capture import Captured
from remora.remote.graph.decoder import Decoder
from remora.remote.graph.variants import as_another
from remora.remote.messages import Unload, Upload, Wanted
from remora.remote.wire.channel import Channel
from remora.systems.remote_calls import Keeps


class DecoderThere:
    """A model whose sessions keep their state on the server."""

    def __init__(self, remote: RemoteServer, decoder: Decoder, keeps: Keeps) -> None:
        self._remote, self._keeps, self._captured = remote, keeps, decoder.captured
        self._placed = Placed(decoder.captured, decoder=True, positions=decoder.positions)
        self._placed.name_over(remote.channel)
        self._sent = 0

    @property
    def sends_again(self) -> bool:
        """Whether anything goes up before a request."""
        return not (self._keeps.graph and self._keeps.weights)

    def session(self) -> RemoteSession:
        """A new session, with nothing read."""
        return RemoteSession(self._remote, self._placed, deadline_s=None)

    def send_again(self) -> None:
        """What is not kept goes up."""
        channel = self._remote.channel
        if not self._keeps.weights:
            tensors = self._captured.tensors
            channel.call(Upload(tuple(tensors)), list(tensors.values()))
        if not self._keeps.graph:
            self._sent += 1
            channel.call(Unload(placed_anew(channel, self._captured, self._sent, decoder=True)))

    def read(self, ids: torch.Tensor) -> torch.Tensor:
        """The logits behind the last of ``ids`` (1, tokens), in a session of its own."""
        self.send_again()
        with self.session() as session:
            (logits,) = session.read(ids, Wanted("last"))
            return logits


def placed_anew(channel: Channel, captured: Captured, number: int, *, decoder: bool = False) -> str:
    """The name of ``captured`` on the server, which has not seen it under ``number`` before."""
    graph = as_another(captured.graph, number)
    another = Captured(graph, captured.tensors, captured.lines, captured.outputs)
    return Placed(another, decoder=decoder).name_over(channel)
