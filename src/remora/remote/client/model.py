"""A model on a server, called as if it were here."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from remora.core.errors import BadValue, Refused, ServerLost
from remora.remote.client.bill import Bill, bill_of
from remora.remote.client.errors import CallFailed
from remora.remote.client.graphs import Graphs, OnServer
from remora.remote.client.placed import Placed
from remora.remote.client.profile import CallProfile, call_profile
from remora.remote.client.session import ATTEMPTS, RemoteSession
from remora.remote.graph.call import Call
from remora.remote.messages import Run, Wanted
from remora.remote.wire.arrived import Arrived, Sent

if TYPE_CHECKING:
    from remora.remote.client.server import RemoteServer


class RemoteModel:
    """What ``server.load(model)`` gives: calling it runs the model on the server.

    Each kind of call (its constants, dtypes and fixed sizes) is captured once. Batch sizes, and
    lengths of token sequences, may vary without being captured again.
    """

    def __init__(
        self, server: RemoteServer, graphs: Graphs, *, deadline_s: float | None = None
    ) -> None:
        self.server, self.graphs, self.deadline_s = server, graphs, deadline_s

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """What ``model(*args, **kwargs)`` gives, without gradients.

        Raises:
            CannotCapture: the model cannot become a graph; says which operator, which line.
            Refused: an operator does not take these inputs, or they need too much memory.
            ServerLost, DeadlineExceeded: no answer came.
        """
        graph, arrived = self._asked(*Call.of(args, kwargs))
        return graph.whole(arrived.tensors)

    def wanted(
        self, *wanted: Wanted, args: Sequence[Any], kwargs: Mapping[str, Any] | None = None
    ) -> list[torch.Tensor]:
        """Call it, and have only what is ``wanted`` of each output sent back, in order."""
        return self._asked(*Call.of(args, kwargs or {}), wanted=wanted)[1].tensors

    def profiled(self, *args: Any, **kwargs: Any) -> tuple[Any, CallProfile]:
        """As calling it, with where the call spent its time."""
        ahead_ns, wall_ns = self.server.clock_ahead_ns(), self.server.channel.link.clock.wall_ns
        sent: list[Sent] = []
        begun_ns = wall_ns()
        graph, arrived = self._asked(*Call.of(args, kwargs), on_sent=sent.append, profiled=True)
        whole = graph.whole(arrived.tensors)
        return whole, call_profile(begun_ns, sent[-1], arrived, wall_ns(), ahead_ns)

    def bill(self, *args: Any, overrides: Mapping[str, str] | None = None, **kwargs: Any) -> Bill:
        """What of such a call goes up once, with every call, comes back, and stays there.

        Args:
            overrides: the class of values by name, where the user knows better than what was found:
                ``{"inputs.1": "state", "outputs.1": "state"}``.

        Raises:
            CannotCapture: the model cannot become a graph.
            UnknownName, BadValue: an override that cannot be, or a model that the server builds,
                of which only the server knows the graph.
        """
        call, tensors = Call.of(args, kwargs)
        graph = self.graphs.graph(call, tensors)
        if not isinstance(graph, Placed):
            raise BadValue(f"the graph of {self.graphs.name} is known to the server only")
        return bill_of(graph.captured, tensors, overrides)

    def session(self, heard: torch.Tensor | None = None) -> RemoteSession:
        """A session with a language model: what it has read stays on the server.

        Args:
            heard: sound (1, bands, frames), for a model that writes down what it hears.

        Raises:
            CannotCapture: the model is no language model that keeps keys and values.
            BadValue: it hears and is given nothing, or the other way round.
        """
        decoding = self.graphs.decoding(self.server.channel)
        return RemoteSession(
            self.server, decoding, context=self._context(heard), deadline_s=self.deadline_s
        )

    def _context(self, heard: torch.Tensor | None) -> Sequence[torch.Tensor]:
        name, listening = self.graphs.name, self.graphs.listening()
        if listening is None:
            if heard is not None:
                raise BadValue(f"{name} has no encoder that hears; call session() without sound")
            return ()
        if heard is None:
            raise BadValue(f"{name} writes down what it hears; call session(input_features)")
        return self._call(listening, [heard]).tensors

    def _asked(
        self,
        call: Call,
        tensors: Sequence[torch.Tensor],
        *,
        on_sent: Callable[[Sent], object] = lambda sent: None,
        **options: Any,
    ) -> tuple[OnServer, Arrived]:
        """The graph that answers, and its answer.

        Whether the model has changed is looked at while the server computes, so that nobody waits
        for it. Where it has, that answer is thrown away.
        """
        while True:
            graph = self.graphs.graph(call, tensors)
            held: list[bool] = []

            def look(sent: Sent, graph: OnServer = graph, held: list[bool] = held) -> None:
                held.append(self.graphs.holds(graph))
                on_sent(sent)

            try:
                arrived = self._call(graph, tensors, on_sent=look, **options)
            except Refused:
                if False not in held:
                    raise
            if False not in held:
                return graph, arrived

    def _call(
        self,
        graph: OnServer,
        tensors: Sequence[torch.Tensor],
        *,
        on_sent: Callable[[Sent], object] | None = None,
        **options: Any,
    ) -> Arrived:
        """Run it; a call changes nothing, so it may be made again over another connection."""
        channel, attempts = self.server.channel, ATTEMPTS
        while True:
            try:
                request = Run(graph.name_over(channel), **options)
                return channel.call(request, tensors, deadline_s=self.deadline_s, on_sent=on_sent)
            except ServerLost as error:
                attempts -= 1
                if not attempts:  # it may be this very call that ends the server
                    raise
                channel = self.server.renewed(channel, error)
            except CallFailed as error:
                raise Refused(_where(error, graph)) from error


def _where(error: CallFailed, graph: OnServer) -> str:
    line = graph.line(error.node)
    return f"{error} at {line}" if line else str(error)
