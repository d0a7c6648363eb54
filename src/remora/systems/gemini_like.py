"""Checkpoints as Gemini makes them: into a peer's memory, which acknowledges them; no disk.

After Wang et al., "GEMINI: Fast Failure Recovery in Distributed Training with In-Memory
Checkpoints", SOSP 2023. The peer is a process of this machine, reached over loopback TCP: what a
network would add is not measured.
"""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch

from remora.core.errors import Unavailable
from remora.core.tensors import tensor_bytes
from remora.systems import peer_memory
from remora.systems.checkpointing import CheckpointingRide, UpdateGuard
from remora.systems.contract import Moved, Ride, System
from remora.systems.tensors import named_tensors
from remora.workloads.contract import Session

_START_S = 30.0
_END_S = 10.0


class Peer:
    """The other process and the connection to it."""

    def __init__(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            listener.settimeout(_START_S)
            port = str(listener.getsockname()[1])
            command = [sys.executable, "-I", "-S", peer_memory.__file__, port]
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
            self.connection, _ = listener.accept()
        self.connection.settimeout(None)

    def hold(self, tensors: list[torch.Tensor]) -> int:
        """Send ``tensors`` and return their bytes once the peer has said that it holds them."""
        size = sum(tensor.nbytes for tensor in tensors)
        self.connection.sendall(size.to_bytes(peer_memory.LENGTH_BYTES, "little"))
        for tensor in tensors:
            self.connection.sendall(tensor_bytes(tensor))
        if self.connection.recv(1) != peer_memory.ACKNOWLEDGED:
            raise Unavailable(
                "the peer that holds checkpoints in memory has gone (out of memory?); "
                "choose a smaller scale or another system"
            )
        return size

    def close(self) -> None:
        self.connection.close()
        try:
            self.process.wait(_END_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class _GeminiRide(CheckpointingRide):
    """Sent beside the next forward and backward; the optimizer's step waits for the answer."""

    def __init__(self, session: Session, every: int) -> None:
        super().__init__(session, every)
        self._peer = Peer()
        self._thread = ThreadPoolExecutor(1, "remora-sender")
        self._sent: Future[None] | None = None
        self._guard = UpdateGuard(session, self.stalls_ns, self.drain)
        self._wire_bytes = 0

    def save(self) -> None:
        self.drain()
        tensors = list(named_tensors(self.session.state()).values())
        self._sent = self._thread.submit(self._send, tensors, time.perf_counter_ns())

    def _send(self, tensors: list[torch.Tensor], asked_ns: int) -> None:
        self._wire_bytes += self._peer.hold(tensors)
        self.durable_ns.append(time.perf_counter_ns() - asked_ns)

    def drain(self) -> None:
        if self._sent is not None:
            self._sent.result()
            self._sent = None

    def moved(self) -> Moved:
        return Moved(wire_bytes=self._wire_bytes)

    def close(self) -> None:
        self._guard.close()
        self._thread.shutdown()
        self._peer.close()


@dataclass(frozen=True)
class GeminiLike(System):
    """Checkpoints in another process's memory: they survive this process, not the host."""

    name: ClassVar[str] = "gemini-like"
    title: ClassVar[str] = "as Gemini: to a peer's memory over loopback TCP, acknowledged"

    every: int = 5
    """Steps between checkpoints."""

    def ride(self, session: Session, directory: Path) -> Ride:
        return _GeminiRide(session, self.every)
