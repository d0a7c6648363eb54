"""The remote service's wire: an echo of tensors over loopback, beside what others offer.

Each peer is a server in a process of its own that sends back the tensor it gets, and a client here.
All are asked in turn, round by round, so that what else the machine does meets them alike. Peers
that are not installed are named; ``PYTHONPATH`` may show where they are.
"""

from __future__ import annotations

import contextlib
import importlib.util
import multiprocessing
import os
import socket
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from typing import Any

import msgspec
import psutil
import torch

from benchmarks.page import table
from remora.core.saying import say
from remora.remote.wire.channel import Channel
from remora.remote.wire.connect import connect
from remora.remote.wire.link import Link
from remora.remote.wire.listener import Listener

SIZES = {"1 KiB": (2**10, 400), "1 MiB": (2**20, 60), "100 MiB": (100 * 2**20, 5)}
"""Bytes, and echoes in a round."""
ROUNDS = 5
WARM_UP = 3
Ask = Callable[[torch.Tensor], torch.Tensor]
Opens = Callable[[], AbstractContextManager[Ask]]


class Echo(msgspec.Struct, frozen=True, tag="echo"):
    """Comes back with its tensors."""


def _serve(link: Link) -> None:
    while True:
        arrived = link.receive()  # until the client is gone
        link.send(arrived.request, arrived.message, arrived.tensors)


def _listen(address: str, share: bool, ready: Any) -> None:
    torch.set_num_threads(1)
    with Listener(address, Echo, _serve, share=share, troubled=say) as listener:
        ready.send(str(listener.address))
        ready.recv()


@contextlib.contextmanager
def _child(target: Callable[..., None], *arguments: object) -> Iterator[Any]:
    """A process with one end of a pipe; it ends when told, or else is ended."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=target, args=(*arguments, there), daemon=True)
    process.start()
    try:
        yield here
    finally:
        with contextlib.suppress(OSError):
            here.send("end")
        process.join(5)
        process.kill()


@contextlib.contextmanager
def ours(scheme: str, share: bool) -> Iterator[Ask]:
    """A channel over ``tcp`` or ``unix``."""
    with tempfile.TemporaryDirectory() as folder:
        address = f"unix://{folder}/s" if scheme == "unix" else "tcp://127.0.0.1:0"
        with _child(_listen, address, share) as pipe:
            link = connect(pipe.recv(), Echo, share=share)
            with Channel(link, is_last=lambda message: True) as channel:
                echo = Echo()
                yield lambda tensor: channel.call(echo, [tensor]).tensors[0]


def _zmq_server(ready: Any) -> None:
    import zmq

    server = zmq.Context().socket(zmq.REP)
    ready.send(server.bind_to_random_port("tcp://127.0.0.1"))
    while True:
        head, body = server.recv_multipart(copy=False)
        tensor = torch.frombuffer(body.buffer, dtype=getattr(torch, bytes(head).decode()))
        server.send_multipart([bytes(head), tensor.numpy()], copy=False)


@contextlib.contextmanager
def zeromq() -> Iterator[Ask]:
    """Request and reply of two parts, without copies where ZeroMQ can."""
    import zmq

    with _child(_zmq_server) as pipe, zmq.Context() as context:
        client = context.socket(zmq.REQ)
        client.connect(f"tcp://127.0.0.1:{pipe.recv()}")

        def ask(tensor: torch.Tensor) -> torch.Tensor:
            client.send_multipart([b"uint8", tensor.numpy()], copy=tensor.nbytes < 2**16)
            _, body = client.recv_multipart(copy=False)
            return torch.frombuffer(body.buffer, dtype=torch.uint8)

        try:
            yield ask
        finally:
            client.close(0)


_GRPC = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]


def _grpc_server(ready: Any) -> None:
    import concurrent.futures

    import grpc

    def echo(body: bytes, context: object) -> bytes:
        tensor = torch.frombuffer(bytearray(body), dtype=torch.uint8)
        return tensor.numpy().tobytes()

    handler = grpc.unary_unary_rpc_method_handler(echo)
    server = grpc.server(concurrent.futures.ThreadPoolExecutor(1), options=_GRPC)
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("e", {"e": handler})])
    ready.send(server.add_insecure_port("127.0.0.1:0"))
    server.start()
    server.wait_for_termination()


@contextlib.contextmanager
def grpc_unary() -> Iterator[Ask]:
    """A unary call of bytes, without protobuf around them."""
    import grpc

    with (
        _child(_grpc_server) as pipe,
        grpc.insecure_channel(f"127.0.0.1:{pipe.recv()}", options=_GRPC) as channel,
    ):
        call = channel.unary_unary("/e/e")
        yield lambda tensor: torch.frombuffer(
            bytearray(call(tensor.numpy().tobytes())), dtype=torch.uint8
        )


def _same(tensor: torch.Tensor) -> torch.Tensor:
    return tensor


def _rpc_options(port: int) -> Any:
    from torch.distributed import rpc

    return rpc.TensorPipeRpcBackendOptions(init_method=f"tcp://127.0.0.1:{port}", rpc_timeout=60)


def _rpc_server(port: int, ready: Any) -> None:
    from torch.distributed import rpc

    rpc.init_rpc("server", rank=1, world_size=2, rpc_backend_options=_rpc_options(port))
    rpc.shutdown()


@contextlib.contextmanager
def torch_rpc() -> Iterator[Ask]:
    """TensorPipe, which takes shared memory where it can."""
    from torch.distributed import rpc

    with socket.create_server(("127.0.0.1", 0)) as free:
        port = int(free.getsockname()[1])
    with _child(_rpc_server, port):
        rpc.init_rpc("client", rank=0, world_size=2, rpc_backend_options=_rpc_options(port))
        try:
            yield lambda tensor: rpc.rpc_sync("server", _same, (tensor,))
        finally:
            rpc.shutdown()


@contextlib.contextmanager
def ray_actor() -> Iterator[Ask]:
    """An actor's method, its answer got at once. The answer is read where Ray keeps it."""
    import ray

    class Actor:
        def echo(self, array: Any) -> Any:
            return torch.from_numpy(array.copy()).numpy()

    ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    try:
        actor = ray.remote(Actor).remote()
        yield lambda tensor: torch.from_numpy(ray.get(actor.echo.remote(tensor.numpy())).copy())
    finally:
        ray.shutdown()


ARMS: dict[str, tuple[str | None, Opens]] = {
    "ours, tcp": (None, lambda: ours("tcp", False)),
    "ours, unix": (None, lambda: ours("unix", False)),
    "ours, shared memory": (None, lambda: ours("tcp", True)),
    "ZeroMQ": ("zmq", zeromq),
    "gRPC": ("grpc", grpc_unary),
    "torch RPC": ("torch.distributed.rpc", torch_rpc),
    "Ray actor": ("ray", ray_actor),
}


def opened(stack: ExitStack) -> tuple[dict[str, Ask], dict[str, str]]:
    """The arms that can be asked, and why the others cannot."""
    asks: dict[str, Ask] = {}
    missing: dict[str, str] = {}
    for name, (module, opens) in ARMS.items():
        try:
            if module is not None and importlib.util.find_spec(module) is None:
                missing[name] = "not installed"
                continue
            asks[name] = stack.enter_context(opens())
        except Exception as error:  # a peer that cannot be started here is named, and left out
            missing[name] = f"{type(error).__name__}: {str(error).splitlines()[0][:80]}"
    return asks, missing


def measure(asks: dict[str, Ask]) -> dict[tuple[str, str], list[float]]:
    """Seconds of every echo, by arm and size; the arms take turns."""
    took: dict[tuple[str, str], list[float]] = {}
    for size, (count, echoes) in SIZES.items():
        tensor = torch.randint(0, 256, (count,), dtype=torch.uint8)
        for turn in range(ROUNDS):
            for name, ask in asks.items():
                if not turn:
                    for _ in range(WARM_UP):
                        if not torch.equal(ask(tensor), tensor):
                            raise ValueError(f"{name} sent something else back")
                times = took.setdefault((name, size), [])
                for _ in range(echoes):
                    began = time.perf_counter()
                    ask(tensor)
                    times.append(time.perf_counter() - began)
    return took


def section() -> str:
    """The section's text."""
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    torch.set_num_threads(1)
    with ExitStack() as stack:
        asks, missing = opened(stack)
        took = measure(asks)
    rows = [(name, *(_cell(took[name, size]) for size in SIZES)) for name in asks]
    largest = SIZES["100 MiB"][0]
    rates = [
        f"{name}: {2 * largest / min(took[name, '100 MiB']) / 1e9:.2f}"
        for name in asks if name.startswith("ours")
    ]  # fmt: skip
    absent = "; ".join(f"{name} ({why})" for name, why in missing.items()) or "none"
    return (
        "Echo of one tensor between two processes over loopback: minimum and median, in "
        f"milliseconds, of {ROUNDS} rounds in which all take turns. One way, of 100 MiB, in "
        f"GB/s: {', '.join(rates)}. Missing: {absent}. Load of the machine: "
        f"{psutil.getloadavg()[0]:.1f} on {psutil.cpu_count()} cores.\n\n"
        + table(("echo, ms", *SIZES), rows)
    )


def _cell(seconds: list[float]) -> str:
    return f"{1e3 * min(seconds):.3f}, {1e3 * statistics.median(seconds):.3f}"


if __name__ == "__main__":
    print(section())
