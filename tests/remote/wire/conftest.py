"""Servers in this process, over every kind of connection."""

from __future__ import annotations

import ssl
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from tests.remote.wire.spoken import Replies, Requests, Server

from remora.remote.wire.connect import connect
from remora.remote.wire.link import Link
from remora.remote.wire.listener import Certificate, Listener


@pytest.fixture(scope="session")
def certificate() -> Iterator[Certificate]:
    """A certificate for localhost that vouches for itself."""
    with tempfile.TemporaryDirectory() as folder:
        made = Certificate(Path(folder, "cert.pem"), Path(folder, "key.pem"))
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
             "-nodes", "-days", "2", "-subj", "/CN=localhost", "-addext",
             "subjectAltName=DNS:localhost,IP:127.0.0.1",
             "-keyout", str(made.key), "-out", str(made.certificate)],
            check=True, capture_output=True,
        )  # fmt: skip
        yield made


@dataclass
class Served:
    """A server, and how its clients reach it."""

    listener: Listener
    server: Server
    tls: ssl.SSLContext | None
    share: bool
    stack: ExitStack
    troubles: list[str] = field(default_factory=list)

    def link(self, address: Any = None, **options: Any) -> Link:
        """A new client; closed at the end of the test."""
        options = {"tls": self.tls, "share": self.share, **options}
        link = connect(address or self.listener.address, Replies, **options)
        self.stack.callback(link.close)
        return link


@pytest.fixture
def served(tmp_path: Path, certificate: Certificate) -> Iterator[Callable[..., Served]]:
    """Makes a server: over "tcp", "unix", "tls", or with "shared" memory."""
    with ExitStack() as stack:

        def make(kind: str = "tcp", **options: Any) -> Served:
            address = f"unix://{tmp_path}/s" if kind == "unix" else "tcp://127.0.0.1:0"
            tls = None
            if kind == "tls":
                options["certificate"] = certificate
                tls = ssl.create_default_context(cafile=str(certificate.certificate))
            server, troubles = Server(), list[str]()
            options.setdefault("troubled", troubles.append)
            listener = stack.enter_context(Listener(address, Requests, server.serve, **options))
            return Served(listener, server, tls, kind == "shared", stack, troubles)

        yield make
