"""A graph on a server of ours, called with as much or as little staying there as is wanted."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from remora.remote.client.placed import Placed
from remora.remote.client.profile import CallProfile, call_profile
from remora.remote.client.server import RemoteServer
from remora.remote.graph.capture import Captured
from remora.remote.graph.variants import weights_as_inputs
from remora.remote.messages import Run, Unload, Wanted
from remora.remote.wire.arrived import Sent
from remora.systems.remote_calls import Keeps
from remora.systems.remote_sessions import placed_anew


class RemoteGraph:
    """What is to stay goes up at once; what is not, with every call."""

    def __init__(self, server: RemoteServer, captured: Captured, keeps: Keeps) -> None:
        self._server, self._keeps, self._sent = server, keeps, 0
        self._latest: tuple[Sequence[torch.Tensor], tuple[Wanted, ...]] | None = None
        self._weights: list[torch.Tensor] = []
        if not keeps.weights:
            weights = captured.graph.weights
            self._weights = [captured.tensors[weight.digest] for weight in weights]
            graph = weights_as_inputs(captured.graph)
            captured = Captured(graph, {}, captured.lines, captured.outputs)
        self.captured = captured
        self._placed = Placed(captured)
        if keeps.graph or keeps.weights:
            self._placed.name_over(server.channel)

    def run(self, inputs: Sequence[torch.Tensor], *wanted: Wanted) -> list[torch.Tensor]:
        """The outputs for ``inputs``, or what is wanted of each."""
        channel = self._server.channel
        name = self._name()
        self._latest = (inputs, wanted)
        arrived = channel.call(Run(name, wanted=wanted), [*inputs, *self._weights])
        if not self._keeps.graph:
            channel.call(Unload(name))
        return arrived.tensors

    def profiled(self) -> CallProfile | None:
        """Where the latest call spends its time, when it is made once more; None before any."""
        if self._latest is None or not self._keeps.graph:
            return None
        ahead_ns, wall_ns = self._server.clock_ahead_ns(), self._server.channel.link.clock.wall_ns
        (inputs, wanted), sent = self._latest, list[Sent]()
        begun_ns = wall_ns()
        request = Run(self._name(), profiled=True, wanted=wanted)
        tensors = [*inputs, *self._weights]
        arrived = self._server.channel.call(request, tensors, on_sent=sent.append)
        return call_profile(begun_ns, sent[-1], arrived, wall_ns(), ahead_ns)

    def _name(self) -> str:
        if self._keeps.graph:
            return self._placed.name_over(self._server.channel)
        self._sent += 1
        return placed_anew(self._server.channel, self.captured, self._sent)
