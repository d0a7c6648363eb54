"""``remora serve``: run models for programs that are elsewhere."""

from __future__ import annotations

import signal
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from remora.core.errors import BadValue
from remora.core.units import format_bytes, parse_bytes, parse_seconds

if TYPE_CHECKING:
    from remora.remote.server.house import Quotas
    from remora.remote.wire.listener import Certificate


def serve(
    device: Annotated[
        str, typer.Option("--device", metavar="DEVICE", help="Where models run: cpu, cuda:0.")
    ] = "cpu",
    listen: Annotated[
        str,
        typer.Option("--listen", metavar="ADDRESS", help="host:port, or unix:///path of a socket."),
    ] = "127.0.0.1:7717",
    token_file: Annotated[
        Path | None,
        typer.Option(
            "--token-file", metavar="FILE", help="What clients must know; needed off loopback."
        ),
    ] = None,
    cert: Annotated[
        Path | None,
        typer.Option("--cert", metavar="FILE", help="PEM certificate: TLS, with --key."),
    ] = None,
    key: Annotated[
        Path | None, typer.Option("--key", metavar="FILE", help="The certificate's private key.")
    ] = None,
    weights: Annotated[
        str, typer.Option("--weights", metavar="SIZE", help="Memory for weights; else half.")
    ] = "",
    weights_folder: Annotated[
        Path | None,
        typer.Option(
            "--weights-folder", metavar="FOLDER", help="Keep weights there for the next server too."
        ),
    ] = None,
    sessions: Annotated[
        str,
        typer.Option(
            "--sessions", metavar="SIZE", help="Memory for sessions; by default a quarter."
        ),
    ] = "",
    calls: Annotated[
        str,
        typer.Option("--calls", metavar="SIZE", help="Memory for one call; else a quarter."),
    ] = "",
    tensors: Annotated[
        str,
        typer.Option("--tensors", metavar="SIZE", help="For what programs keep; else an eighth."),
    ] = "",
    lease: Annotated[
        str, typer.Option("--lease", metavar="TIME", help="How long a session stays unused.")
    ] = "10min",
    threads: Annotated[
        int,
        typer.Option("--threads", metavar="N", help="CPU threads of an operator; all by default."),
    ] = 0,
) -> None:
    """Run models for programs that connect, until ended.

    A program puts one here with remora.connect("tcp://HOST:PORT").load(model).
    """
    import torch

    from remora.core.token import read_token_text
    from remora.remote.server.device import device_here
    from remora.remote.server.server import Server
    from remora.remote.wire.address import with_scheme
    from remora.workloads.builder import workload_model

    if threads:
        torch.set_num_threads(threads)
    server = Server(
        with_scheme(listen),
        device_here(device),
        token=read_token_text(token_file),
        certificate=certificate_of(cert, key),
        quotas=quotas_of(weights, sessions, calls, lease, tensors),
        weights_folder=weights_folder,
        builders={"workloads": workload_model},
        troubled=lambda words: print(words, flush=True),
    )
    with server:
        quotas = server.house.quotas
        print(
            f"serving {server.house.device} on {server.address}: "
            f"{format_bytes(quotas.weights_bytes)} for weights, "
            f"{format_bytes(quotas.sessions_bytes)} for sessions; end it with Ctrl-C",
            flush=True,
        )
        wait_for_the_end(threading.Event())


def wait_for_the_end(ended: threading.Event) -> None:
    """Wait for ``ended``, Ctrl-C or SIGTERM."""
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    try:
        ended.wait()
    except KeyboardInterrupt:
        return


def certificate_of(cert: Path | None, key: Path | None) -> Certificate | None:
    """What ``--cert`` and ``--key`` name; both or neither."""
    from remora.remote.wire.listener import Certificate

    if (cert is None) != (key is None):
        raise BadValue("--cert and --key go together; give both, or neither for no TLS")
    return None if cert is None or key is None else Certificate(cert, key)


def quotas_of(weights: str, sessions: str, calls: str, lease: str, tensors: str = "") -> Quotas:
    """What the options of those names say."""
    from remora.remote.server.house import Quotas

    return Quotas(
        weights_bytes=parse_bytes(weights) if weights else 0,
        sessions_bytes=parse_bytes(sessions) if sessions else 0,
        call_bytes=parse_bytes(calls) if calls else 0,
        tensors_bytes=parse_bytes(tensors) if tensors else 0,
        lease_s=parse_seconds(lease),
    )
