"""Our remote service, with what it knows of a model switched off one thing at a time."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch

from remora.core.errors import BadValue
from remora.remote.client.server import RemoteServer, connect
from remora.remote.wire.relay import Relay
from remora.systems.contract import Moved, Ride, System
from remora.systems.remote_calls import CalledModule, Keeps, Reader, RemoteGraph
from remora.systems.remote_decoding import Decoding, DecodingHere, DecodingThere
from remora.systems.remote_process import ServerProcess
from remora.workloads.contract import Outcome, Session
from remora.workloads.language.decoding import DecodeSession

STATES = ("kept", "returned", "recomputed")


class RemoteRide(Ride):
    """A session whose model is called on a server in another process of this machine."""

    def __init__(self, session: Session, remote: RemoteServer) -> None:
        super().__init__(session)
        self.remote = remote
        self.held = ExitStack()
        """What ends with it: the connection, the network, the server."""
        self._before = self._wire_bytes()

    def moved(self) -> Moved:
        """What crossed the connection since the model was there, both ways."""
        return Moved(wire_bytes=self._wire_bytes() - self._before)

    def counts(self) -> Mapping[str, float]:
        """Both ends' counts of the same bytes, and what the server holds."""
        here, there = self.remote.counted, self.remote.counts()
        return {
            "sent_bytes": here.bytes_sent,
            "received_bytes": here.bytes_received,
            "server_sent_bytes": there["wire_sent_bytes"],
            "server_received_bytes": there["wire_received_bytes"],
            "server_weights_bytes": there["weights_bytes"],
            "server_sessions_bytes": there["sessions_bytes"],
        }

    def close(self) -> None:
        self.held.close()

    def ready(self) -> None:
        """The model is there: what crosses from here on is counted."""
        self._before = self._wire_bytes()

    def _wire_bytes(self) -> int:
        return self.remote.counted.bytes_sent + self.remote.counted.bytes_received


class _CallRide(RemoteRide):
    """Every call of the model as a whole."""

    def __init__(self, session: Session, remote: RemoteServer, keeps: Keeps) -> None:
        super().__init__(session, remote)
        self._module = session.model
        session.model = CalledModule(  # type: ignore[assignment]
            session.model,
            lambda captured: RemoteGraph(remote, captured, keeps),
            keeps,
            remote.load(session.model),
        )

    def close(self) -> None:
        self.session.model = self._module
        super().close()


class _DecodeRide(RemoteRide):
    """Greedy decoding, in a session there or with a graph there."""

    session: DecodeSession

    def __init__(self, session: DecodeSession, remote: RemoteServer, keeps: Keeps) -> None:
        super().__init__(session, remote)
        self._decoding: Decoding
        if keeps.state == "kept":
            held = remote.load(session.model).session()
            self._decoding = DecodingThere(held, session.prompt, keeps)
        else:
            reader = Reader(
                session.model, lambda captured: RemoteGraph(remote, captured, keeps), keeps
            )
            self._decoding = DecodingHere(reader, session.prompt)
        self.ready()

    def step(self) -> Outcome:
        return Outcome(torch.tensor([self._decoding.decode(self.session.new_tokens)]))


@dataclass(frozen=True)
class RemoraRemote(System):
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
        if self.mbit_s < 0 or self.delay_ms < 0:
            raise BadValue(f"a network of {self.mbit_s} Mbit/s and {self.delay_ms} ms; not below 0")
        keeps = Keeps(self.graph, self.weights, self.state, self.selected, self.streamed)
        with ExitStack() as stack:
            remote = self._connected(session, stack)
            ride: RemoteRide = (
                _DecodeRide(session, remote, keeps)
                if isinstance(session, DecodeSession)
                else _CallRide(session, remote, keeps)
            )
            ride.held = stack.pop_all()
            return ride

    def _connected(self, session: Session, stack: ExitStack) -> RemoteServer:
        server = ServerProcess(str(session.device), torch.get_num_threads())
        stack.callback(server.close)
        address = server.address
        if self.mbit_s or self.delay_ms:
            bits_per_s = self.mbit_s * 1e6 or None
            address = str(stack.enter_context(Relay(address, bits_per_s, self.delay_ms)).address)
        return stack.enter_context(connect(address, reconnect_s=0, share=self.shared))
