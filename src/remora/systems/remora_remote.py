"""Our remote service, with what it knows of a model switched off one thing at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import psutil
import torch

from remora.core.errors import BadValue
from remora.remote.client.server import RemoteServer
from remora.remote.graph.call import Call
from remora.remote.graph.capture import Captured
from remora.remote.graph.decoder import Decoder, capture_decoder
from remora.systems.contract import Ride
from remora.systems.elsewhere import Crossed, ElsewhereRide
from remora.systems.graphs import Graphs, RunsGraph, captured_call
from remora.systems.remote_calls import CalledModule, Keeps, Reader
from remora.systems.remote_decoding import Decoding, DecodingHere, DecodingThere
from remora.systems.remote_graph import RemoteGraph
from remora.systems.remote_network import connected
from remora.systems.remote_process import ServerProcess, Serving
from remora.systems.remote_profile import of_call, of_tokens
from remora.systems.remote_sessions import DecoderThere
from remora.workloads.contract import Outcome, Session
from remora.workloads.language.decoding import DecodeSession

STATES = ("kept", "returned", "recomputed")


class RemoteRide(ElsewhereRide):
    """A session whose model is called on a server in another process of this machine."""

    def __init__(self, session: Session, remote: RemoteServer, pid: int) -> None:
        self.remote = remote
        self.held = ExitStack()
        """What ends with it: the connection, the network, the server."""
        self.graph: RemoteGraph | None = None
        super().__init__(session, self._wire, psutil.Process(pid))

    def counts(self) -> Mapping[str, float]:
        """Both ends' counts of the same bytes, and what the server holds."""
        counts, profile = super().counts(), self.profile()
        here, there = self.remote.counted, self.remote.counts()
        return {
            **counts,
            **profile,
            "all_sent_bytes": here.bytes_sent,
            "all_received_bytes": here.bytes_received,
            "server_sent_bytes": there["wire_sent_bytes"],
            "server_received_bytes": there["wire_received_bytes"],
            "server_weights_bytes": there["weights_bytes"],
            "server_sessions_bytes": there["sessions_bytes"],
        }

    def profile(self) -> Mapping[str, float]:
        """Where a step's requests spend their time, in ms, by making them once more."""
        found = None if self.graph is None else self.graph.profiled()
        return {} if found is None else of_call(found)

    def place(self, captured: Captured, keeps: Keeps) -> RemoteGraph:
        """``captured`` on the server, as far as it is to stay there."""
        self.graph = RemoteGraph(self.remote, captured, keeps)
        return self.graph

    def close(self) -> None:
        self.held.close()

    def _wire(self) -> Crossed:
        return Crossed(self.remote.counted.bytes_sent, self.remote.counted.bytes_received)


class _CallRide(RemoteRide):
    """Every call of the model as a whole."""

    def __init__(
        self, session: Session, remote: RemoteServer, pid: int, keeps: Keeps, graphs: Graphs
    ) -> None:
        super().__init__(session, remote, pid)
        self._module, self._keeps = session.model, keeps
        self._reads: Callable[[torch.Tensor], torch.Tensor] | None = None
        found = graphs.before_a_call(session.model)
        if isinstance(found, Decoder):
            self._place_reader(found)
        elif found is not None:
            self._place(found)
        session.model = CalledModule(session.model, self._runs, self._read)  # type: ignore[assignment]

    def close(self) -> None:
        self.session.model = self._module
        super().close()

    def _runs(self, call: Call, tensors: Sequence[torch.Tensor]) -> RemoteGraph:
        return self.graph or self._place(captured_call(self._module, call, tensors))

    def _place(self, captured: Captured) -> RemoteGraph:
        graph = self.place(captured, self._keeps)
        self.ready()
        return graph

    def _read(self, ids: torch.Tensor) -> torch.Tensor:
        return (self._reads or self._place_reader(capture_decoder(self._module)))(ids)

    def _place_reader(self, decoder: Decoder) -> Callable[[torch.Tensor], torch.Tensor]:
        if self._keeps.state == "kept":
            self._reads = DecoderThere(self.remote, decoder, self._keeps).read
            self.ready()
        else:
            self._reads = Reader(decoder.captured, self._place, self._keeps).prompt
        return self._reads


class _DecodeRide(RemoteRide):
    """Greedy decoding, in a session there or with a graph there."""

    session: DecodeSession

    def __init__(
        self,
        session: DecodeSession,
        decoder: Decoder,
        remote: RemoteServer,
        pid: int,
        keeps: Keeps,
    ) -> None:
        super().__init__(session, remote, pid)
        self._decoding: Decoding
        if keeps.state == "kept":
            there = DecoderThere(remote, decoder, keeps)
            self._decoding = DecodingThere(there, session.prompt, keeps)
        else:
            reader = Reader(decoder.captured, lambda graph: self.place(graph, keeps), keeps)
            self._decoding = DecodingHere(reader, session.prompt)
        self.ready()

    def profile(self) -> Mapping[str, float]:
        if isinstance(self._decoding, DecodingThere):
            return of_tokens(self._decoding.profiled(self.session.new_tokens))
        tokens = self.session.new_tokens
        return {name: value * tokens for name, value in super().profile().items()}

    def work(self) -> Outcome:
        tokens = self._decoding.decode(self.session.new_tokens, self.session.first_is_known)
        return Outcome(torch.tensor([tokens]))


@dataclass(frozen=True)
class RemoraRemote(RunsGraph):
    """The model in another process; options switch off what makes that cheap."""

    name: ClassVar[str] = "remote"
    title: ClassVar[str] = "remora serve: weights and state there, tokens streamed back"
    trains: ClassVar[bool] = False

    graph: bool = True
    """Off: the graph is sent with every call."""
    weights: bool = True
    """Off: the weights are sent with every call."""
    state: str = "kept"
    """Keys and values: ``kept`` there, ``returned`` with every token, ``recomputed`` for it."""
    selected: bool = True
    """Off: all logits come back, and the token is chosen here."""
    streamed: bool = True
    """Off: each token is asked for."""

    mbit_s: float = 0.0
    """The network between the two, in Mbit/s each way; 0: loopback as it is."""
    delay_ms: float = 0.0
    """How long everything takes one way; a round trip twice as long."""
    shared: bool = False
    """On: large tensors go through shared memory, and cross no wire."""

    def ride(self, session: Session, directory: Path) -> Ride:
        if self.state not in STATES:
            raise BadValue(f"state={self.state!r} is none of {', '.join(STATES)}")
        keeps = Keeps(self.graph, self.weights, self.state, self.selected, self.streamed)
        with ExitStack() as stack:
            server = ServerProcess(Serving(str(session.device), torch.get_num_threads()))
            stack.callback(server.close)

            def connect() -> RemoteServer:
                address, delay_ms = server.address, self.delay_ms
                return connected(
                    address, stack, mbit_s=self.mbit_s, delay_ms=delay_ms, share=self.shared
                )

            ride = riding(session, connect, server.pid, keeps, self.graphs)
            ride.held = stack.pop_all()
            return ride


def riding(
    session: Session,
    connect: Callable[[], RemoteServer],
    pid: int,
    keeps: Keeps,
    graphs: Graphs,
) -> RemoteRide:
    """Rides ``session`` with its model on the server in process ``pid``.

    A language model's graph is made ready before it connects, while the server may still start.
    """
    if not isinstance(session, DecodeSession):
        return _CallRide(session, connect(), pid, keeps, graphs)
    decoder = graphs.decoder(session.model)
    return _DecodeRide(session, decoder, connect(), pid, keeps)
