"""A model behind PyTorch's own RPC, as its documentation has it: a remote reference and calls."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch

from remora.core.errors import Unavailable
from remora.systems.contract import Ride, System
from remora.systems.held_model import HeldModel
from remora.systems.held_ride import HeldRide
from remora.workloads.contract import Session

_HERE, _THERE = "caller", "holder"
_END_S = 20.0


class _RpcHolder:
    """Calls through a remote reference: ``rref.rpc_sync()``."""

    def __init__(self, model: torch.nn.Module) -> None:
        from torch.distributed import rpc

        self._reference = rpc.remote(_THERE, HeldModel, args=(model,))
        self._reference.confirmed_by_owner()

    def call(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return self._reference.rpc_sync().call(args, kwargs)

    def read(self, tokens: torch.Tensor) -> int:
        token: int = self._reference.rpc_sync().read(tokens)
        return token

    def forget(self, count: int) -> None:
        self._reference.rpc_sync().forget(count)


@dataclass(frozen=True)
class TorchRpc(System):
    """The model in another process, weights and cache there, one remote call a token."""

    name: ClassVar[str] = "torch-rpc"
    title: ClassVar[str] = "PyTorch RPC: a remote reference, one call a token"
    trains: ClassVar[bool] = False

    tcp: bool = True
    """Over TCP, as between machines; off: through shared memory, where TensorPipe can."""

    def unavailable(self) -> str | None:
        from torch.distributed import rpc

        return None if rpc.is_available() else "this build of PyTorch has no RPC"

    def ride(self, session: Session, directory: Path) -> Ride:
        port = _free_port()
        with _environment(port):
            command = [sys.executable, "-m", "remora.systems.torch_rpc", str(int(self.tcp))]
            arguments = [*command, str(torch.get_num_threads())]
            process = subprocess.Popen(arguments, stdin=subprocess.DEVNULL)
            try:
                _join(_HERE, 0, tcp=self.tcp)
            except RuntimeError as error:
                process.kill()
                raise Unavailable(f"PyTorch RPC did not start: {error}") from error
        return HeldRide(session, _RpcHolder(session.model), lambda: _leave(process))


def _join(name: str, rank: int, *, tcp: bool) -> None:
    from torch.distributed import rpc

    options = rpc.TensorPipeRpcBackendOptions(num_worker_threads=4, rpc_timeout=600)
    if tcp:
        options = rpc.TensorPipeRpcBackendOptions(
            num_worker_threads=4, rpc_timeout=600, _transports=["uv"], _channels=["basic"]
        )
    rpc.init_rpc(name, rank=rank, world_size=2, rpc_backend_options=options)


def _leave(process: subprocess.Popen[bytes]) -> None:
    from torch.distributed import rpc

    rpc.shutdown()
    try:
        process.wait(_END_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@contextmanager
def _environment(port: int) -> Iterator[None]:
    """Where the two find each other, as long as they do."""
    before = dict(os.environ)
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def main(tcp: bool, threads: int) -> None:
    """The process that holds the model."""
    from torch.distributed import rpc

    torch.set_num_threads(threads)
    _join(_THERE, 1, tcp=tcp)
    rpc.shutdown()  # waits until the other end has done so, too


if __name__ == "__main__":
    main(bool(int(sys.argv[1])), int(sys.argv[2]))
