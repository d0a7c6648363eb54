"""A server, seen from a program: connect to it, put models on it."""

from __future__ import annotations

import ssl
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import msgspec
import torch

from remora.core.errors import BadValue
from remora.remote.client.errors import as_error
from remora.remote.client.model import RemoteModel
from remora.remote.graph.capture import Captured
from remora.remote.messages import (
    Count,
    Done,
    Echo,
    Lacking,
    Load,
    Offer,
    Reply,
    Upload,
    is_last,
)
from remora.remote.wire.channel import Channel
from remora.remote.wire.connect import connect as connect_link
from remora.remote.wire.counted import Counted
from remora.remote.wire.limits import Limits

UPLOADED_BYTES = 64 * 2**20
"""Weights that go up in one request: few round trips, and a cut costs little."""


class RemoteServer:
    """A connection to a server. Thread-safe; a context manager that closes it."""

    def __init__(self, channel: Channel, address: str) -> None:
        self.channel, self.address = channel, address

    def load(self, model: torch.nn.Module, *, deadline_s: float | None = None) -> RemoteModel:
        """``model`` on the server. It is captured when it is first called, or first has a session.

        Args:
            deadline_s: how long each call may take; for ever by default.

        Raises:
            BadValue: it is no module.
        """
        if not isinstance(model, torch.nn.Module):
            raise BadValue(f"load() takes a torch.nn.Module, not a {type(model).__name__}")
        return RemoteModel(self, model, deadline_s=deadline_s)

    def put(self, captured: Captured, *, decoder: bool = False, positions: int = 0) -> str:
        """Upload what the server lacks of a graph's weights, and the graph; returns its name there.

        Raises:
            Refused: the server does not take it.
            ServerLost: the connection ended; what was uploaded by then stays there for next time.
        """
        lacking = self.channel.call(Offer(tuple(captured.tensors))).message
        for digests in _pieces(_digests(lacking), captured.tensors):
            tensors = [captured.tensors[digest].to("cpu") for digest in digests]
            self.channel.call(Upload(tuple(digests)), tensors)
        graph = msgspec.msgpack.encode(captured.graph)
        encoded = torch.frombuffer(bytearray(graph), dtype=torch.uint8)
        loaded = self.channel.call(Load(decoder, positions), [encoded]).message
        name: str = loaded.model
        return name

    def echo(self, tensors: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """``tensors``, back from the server."""
        return self.channel.call(Echo(), tensors).tensors

    def counts(self) -> Mapping[str, int]:
        """What the server holds, and the bytes that crossed this connection as it counted them."""
        counts: Mapping[str, int] = self.channel.call(Count()).message.counts
        return counts

    @property
    def counted(self) -> Counted:
        """The bytes that crossed this connection, counted at this end's socket."""
        return self.channel.link.counted

    def close(self) -> None:
        """End the connection. The server frees what only this one held. May be called again."""
        self.channel.close()

    def __enter__(self) -> RemoteServer:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def connect(
    address: str,
    *,
    token: str | None = None,
    token_file: Path | str | None = None,
    certificate: Path | str | None = None,
    timeout_s: float = 5.0,
    limits: Limits | None = None,
) -> RemoteServer:
    """Connect to the server at ``address``.

    Args:
        address: ``tcp://host:port`` or ``unix:///path``.
        token: what the server wants to hear; or ``token_file``, a file that holds it.
        certificate: a PEM file that proves the server, where it speaks TLS.
        timeout_s: for connecting.

    Raises:
        BadValue: an address that is none, or a file that cannot be read.
        ServerLost: nobody answers there.
        Refused: the server does not take this client: its token, its version.
    """
    link = connect_link(
        address,
        Reply,
        token=token or _token_in(token_file),
        timeout_s=timeout_s,
        limits=limits,
        tls=_tls(certificate),
    )
    name = f"the server at {address}"
    return RemoteServer(Channel(link, is_last=is_last, as_error=as_error, name=name), address)


def _token_in(file: Path | str | None) -> str:
    if file is None:
        return ""
    try:
        return Path(file).read_text().strip()
    except OSError as error:
        raise BadValue(f"the token file {file} cannot be read: {error.strerror}") from error


def _tls(certificate: Path | str | None) -> ssl.SSLContext | None:
    if certificate is None:
        return None
    try:
        return ssl.create_default_context(cafile=str(certificate))
    except OSError as error:
        raise BadValue(f"the certificate {certificate} cannot be read: {error}") from error


def _digests(lacking: Lacking | Done) -> Sequence[str]:
    return lacking.digests if isinstance(lacking, Lacking) else ()


def _pieces(digests: Sequence[str], tensors: Mapping[str, torch.Tensor]) -> Iterator[Sequence[str]]:
    """``digests`` in pieces of some :data:`UPLOADED_BYTES`."""
    piece: list[str] = []
    size = 0
    for digest in digests:
        piece.append(digest)
        size += tensors[digest].nbytes
        if size >= UPLOADED_BYTES:
            yield piece
            piece, size = [], 0
    if piece:
        yield piece
