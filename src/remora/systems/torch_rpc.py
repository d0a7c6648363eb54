"""A model behind PyTorch's own RPC: a function of another process, called with ``rpc_sync``.

It may be joined several times in one process. Three things of RPC outlive its shutdown, and a
second join would wait for ever for a process that is new: a count of joins, the counts of an
orderly shutdown, and the owners of remote references. So the other process is told the count, each
join has names of its own, neither end waits for the other to shut down, and no remote reference is
held: the model lies in a variable there.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import psutil
import torch

from remora.core.errors import Unavailable
from remora.systems.contract import Ride, System
from remora.systems.held_model import HeldModel
from remora.systems.held_ride import HeldRide
from remora.systems.socket_bytes import SocketBytes
from remora.workloads.contract import Session

_END_S = 10.0
_held: list[HeldModel] = []
"""In the other process: the model."""


@dataclass(frozen=True)
class TorchRpc(System):
    """The model in another process, weights and cache there, one remote call a token."""

    name: ClassVar[str] = "torch-rpc"
    title: ClassVar[str] = "PyTorch RPC: the model and its cache there, a call a token"
    trains: ClassVar[bool] = False

    tcp: bool = True
    """Over TCP, as between machines; off: through shared memory, where TensorPipe can."""
    loop_there: bool = False
    """On: all tokens of a step are one call, and come back together at its end."""

    def unavailable(self) -> str | None:
        from torch.distributed import rpc

        return None if rpc.is_available() else "this build of PyTorch has no RPC"

    def ride(self, session: Session, directory: Path) -> Ride:
        crossed, joined = SocketBytes(), _Joined(tcp=self.tcp)
        try:
            joined.hold(session.model)
            return HeldRide(
                session,
                joined,
                joined.close,
                crossed=crossed if self.tcp else lambda: None,
                process=psutil.Process(joined.process.pid),
                loop_there=self.loop_there,
            )
        except BaseException:
            joined.close()
            raise


class _Joined:
    """The two processes, joined."""

    def __init__(self, *, tcp: bool) -> None:
        from torch.distributed import rpc

        count, port = rpc._init_counter, _free_port()
        self._other = f"holder-{count}"
        arguments = (count, port, int(tcp), torch.get_num_threads())
        self.process = subprocess.Popen(
            [sys.executable, "-m", "remora.systems.torch_rpc", *map(str, arguments)],
            stdin=subprocess.PIPE,
            env={**os.environ, "TORCH_CPP_LOG_LEVEL": "ERROR"},
        )
        try:
            _join(f"caller-{count}", 0, port, tcp=tcp)
        except BaseException as error:
            self._end()
            raise Unavailable(f"PyTorch RPC did not start: {error}") from error

    def hold(self, model: torch.nn.Module) -> None:
        from torch.distributed import rpc

        rpc.rpc_sync(self._other, _hold, args=(model, torch.get_num_threads()))

    def ask(self, method: str, *args: Any) -> Any:
        from torch.distributed import rpc

        return rpc.rpc_sync(self._other, _ask, args=(method, *args))

    def close(self) -> None:
        from torch.distributed import rpc

        rpc.shutdown(graceful=False)
        self._end()

    def _end(self) -> None:
        if self.process.stdin is not None:
            self.process.stdin.close()
        try:
            self.process.wait(_END_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def _hold(model: torch.nn.Module, threads: int) -> None:
    _held[:] = [HeldModel(model, threads)]


def _ask(method: str, *args: Any) -> Any:
    return getattr(_held[0], method)(*args)


def _join(name: str, rank: int, port: int, *, tcp: bool) -> None:
    from torch.distributed import rpc

    only: Any = {"_transports": ["uv"], "_channels": ["basic"]} if tcp else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch, about how RPC itself uses it
        options = rpc.TensorPipeRpcBackendOptions(
            num_worker_threads=4, rpc_timeout=600, init_method=f"tcp://127.0.0.1:{port}", **only
        )
        rpc.init_rpc(name, rank=rank, world_size=2, rpc_backend_options=options)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def main(count: int, port: int, tcp: int, threads: int) -> None:
    """The process that holds the model, until its standard input ends."""
    from torch.distributed import rpc

    torch.set_num_threads(threads)
    rpc._init_counter = count
    _join(f"holder-{count}", 1, port, tcp=bool(tcp))
    sys.stdin.read()
    rpc.shutdown(graceful=False)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
