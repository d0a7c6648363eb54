"""A model on a server, called as if it were here."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from remora.core.errors import BadValue, Full, Refused, ServerLost
from remora.remote.client.bill import Bill, bill_of
from remora.remote.client.errors import CallFailed
from remora.remote.client.graphs import Graphs, Listens, OnServer
from remora.remote.client.kept import (
    Held,
    RemoteTensor,
    dropped,
    gathered,
    numbered,
    numbers_of,
    stood_in,
)
from remora.remote.client.placed import Placed
from remora.remote.client.profile import CallProfile, call_profile
from remora.remote.client.session import ATTEMPTS, Context, RemoteSession, no_context
from remora.remote.graph.call import Call
from remora.remote.messages import Run, Wanted
from remora.remote.wire.arrived import Arrived, Sent
from remora.remote.wire.channel import Channel

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
        answer = self._asked(args, kwargs)
        return answer.graph.whole(answer.arrived.tensors)

    def wanted(
        self, *wanted: Wanted, args: Sequence[Any], kwargs: Mapping[str, Any] | None = None
    ) -> list[Any]:
        """Call it, and have only what is ``wanted`` of each output sent back, in order.

        A ``handle`` is a :class:`RemoteTensor`: it stays there, and goes into this or other models'
        calls as an argument.

        Raises:
            ServerLost: as for calling it; and where an argument was kept on a server that is gone.
        """
        policies = numbered(wanted)
        answer = self._asked(args, kwargs or {}, wanted=policies)
        return gathered(policies, answer.arrived, answer.channel)

    def profiled(self, *args: Any, **kwargs: Any) -> tuple[Any, CallProfile]:
        """As calling it, with where the call spent its time."""
        ahead_ns, wall_ns = self.server.clock_ahead_ns(), self.server.channel.link.clock.wall_ns
        sent: list[Sent] = []
        begun_ns = wall_ns()
        answer = self._asked(args, kwargs, on_sent=sent.append, profiled=True)
        whole = answer.graph.whole(answer.arrived.tensors)
        return whole, call_profile(begun_ns, sent[-1], answer.arrived, wall_ns(), ahead_ns)

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

    def session(
        self, heard: torch.Tensor | None = None, *, key: str | None = None
    ) -> RemoteSession:
        """A session with a language model: what it has read stays on the server.

        Args:
            heard: sound (1, bands, frames), for a model that writes down what it hears.
            key: on a fleet sessions of one key are on one server, whichever program opens them.
                One server by itself ignores it.

        Raises:
            CannotCapture: the model is no language model that keeps keys and values.
            BadValue: it hears and is given nothing, or the other way round.
            Full: there is no room for it, on any server of a fleet.
        """
        server = self.server.for_key(key)
        decoding, channel = self._decoding(server)
        return RemoteSession(
            server,
            decoding,
            context=self._context(heard),
            deadline_s=self.deadline_s,
            channel=channel,
        )

    def try_session(self) -> None:
        """Capture what sessions need, and open none.

        Raises:
            CannotCapture: as for :meth:`session`; and the model hears.
        """
        self._decoding(self.server)

    def _decoding(self, server: RemoteServer) -> tuple[OnServer, Channel]:
        """The step of a language model, and over which connection it is had."""
        channel, full = server.channel, dict[str, Full]()
        while True:
            try:
                return self.graphs.decoding(channel), channel
            except Full as error:
                full[channel.name] = error
                channel = server.elsewhere(full)

    def _context(self, heard: torch.Tensor | None) -> Context:
        name, listening = self.graphs.name, self.graphs.listening()
        if listening is None:
            if heard is not None:
                raise BadValue(f"{name} has no encoder that hears; call session() without sound")
            return no_context
        if heard is None:
            raise BadValue(f"{name} writes down what it hears; call session(input_features)")
        return partial(self._hear, listening, heard)

    def _hear(
        self, listening: Listens, heard: torch.Tensor, channel: Channel
    ) -> Sequence[RemoteTensor]:
        """A decoder's context, which stays where it is made."""
        model = listening.name_over(channel)
        wanted = numbered([Wanted("handle")] * listening.context)
        arrived = channel.call(Run(model, wanted=wanted), [heard], deadline_s=self.deadline_s)
        return gathered(wanted, arrived, channel)

    def _asked(
        self,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        *,
        on_sent: Callable[[Sent], object] = lambda sent: None,
        **options: Any,
    ) -> Answer:
        """Ask until the answer is that of the model as it is."""
        args, kwargs, held = stood_in(args, kwargs)
        call, tensors = Call.of(args, kwargs)
        while True:
            answer = self._once(call, tensors, held, on_sent, options)
            if answer is not None:
                return answer

    def _once(
        self,
        call: Call,
        tensors: Sequence[torch.Tensor],
        held: Held,
        on_sent: Callable[[Sent], object],
        options: Mapping[str, Any],
    ) -> Answer | None:
        """The answer; None where the model had changed before it was asked.

        That is looked at while the server computes, so that nobody waits for it.
        """
        graph, is_current = self.graphs.graph(call, tensors), True

        def look(sent: Sent) -> None:
            nonlocal is_current
            is_current = self.graphs.holds(graph)
            on_sent(sent)

        try:
            answer = self._call(graph, tensors, held, on_sent=look, **options)
        except Refused:
            if is_current:
                raise
            return None
        return Answer(graph, *answer) if is_current else None

    def _call(
        self,
        graph: OnServer,
        tensors: Sequence[torch.Tensor],
        held: Held,
        *,
        on_sent: Callable[[Sent], object] | None = None,
        **options: Any,
    ) -> tuple[Arrived, Channel]:
        """Run it; a call changes nothing, so it may be made again over another connection."""
        channel, attempts = self.server.channel, ATTEMPTS
        if held:
            channel = next(iter(held.values())).channel
            options["held"] = numbers_of(tensors, held, channel)
            tensors = [tensor for tensor in tensors if id(tensor) not in held]
        while True:
            try:
                request = Run(graph.name_over(channel), freed=dropped(channel), **options)
                arrived = channel.call(
                    request, tensors, deadline_s=self.deadline_s, on_sent=on_sent
                )
                return arrived, channel
            except ServerLost as error:
                attempts -= 1
                if held:
                    raise ServerLost(f"{error}; what was kept there is gone") from error
                if not attempts:  # it may be this very call that ends the server
                    raise
                channel = self.server.renewed(channel, error)
            except CallFailed as error:
                raise Refused(_where(error, graph)) from error


class Answer(NamedTuple):
    """What a call gave."""

    graph: OnServer
    """The graph that answered."""
    arrived: Arrived
    channel: Channel


def _where(error: CallFailed, graph: OnServer) -> str:
    line = graph.line(error.node)
    return f"{error} at {line}" if line else str(error)
