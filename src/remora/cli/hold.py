"""``remora checkpoint hold``: keep other machines' checkpoints in this one's memory."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from remora.core.errors import BadValue
from remora.core.units import format_bytes, parse_bytes

if TYPE_CHECKING:
    import ssl


def hold(
    memory: Annotated[
        str, typer.Option("--memory", metavar="SIZE", help="For all copies together: 8GiB.")
    ],
    listen: Annotated[
        str, typer.Option("--listen", metavar="HOST:PORT", help="Where jobs connect to.")
    ] = "127.0.0.1:7718",
    token_file: Annotated[
        Path | None,
        typer.Option(
            "--token-file", metavar="FILE", help="What jobs must know; needed off loopback."
        ),
    ] = None,
    certificate: Annotated[
        Path | None,
        typer.Option("--certificate", metavar="FILE", help="PEM, with its key: encrypt (TLS)."),
    ] = None,
) -> None:
    """Hold the newest checkpoints of other machines' jobs in memory, until ended.

    A job copies to it with second="peer://HOST:PORT/RUN". What is held is gone with this process.
    """
    from remora.checkpoint.peer.server import PeerServer
    from remora.core.token import read_token

    limit = parse_bytes(memory)
    token = read_token(token_file) if token_file else None
    try:
        server = PeerServer(listen, limit, token=token, tls=_tls(certificate))
    except OSError as error:
        raise BadValue(f"{listen} cannot be listened on: {error.strerror or error}") from None
    signal.signal(signal.SIGTERM, lambda *_: server.close())
    print(f"holding checkpoints in {format_bytes(limit)} on {server.address}", flush=True)
    try:
        server.serve()
    except KeyboardInterrupt:
        server.close()


def _tls(certificate: Path | None) -> ssl.SSLContext | None:
    if certificate is None:
        return None
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(certificate)
    except (OSError, ssl.SSLError) as error:
        raise BadValue(f"certificate {str(certificate)!r} cannot be used: {error}") from None
    return context
