"""Where a server listens: ``tcp://host:port`` or ``unix:///path``."""

from __future__ import annotations

import ipaddress
import socket
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from remora.core.errors import BadValue

EXAMPLES = "'tcp://127.0.0.1:7717' or 'unix:///tmp/remora.sock'"
MOST_PATH_BYTES = 100
"""Of a Unix socket's path: the kernel takes 107 on Linux, 103 elsewhere."""


@dataclass(frozen=True)
class TcpAddress:
    """A host and a port. Port 0: any that is free, for who listens."""

    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"tcp://{host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"


@dataclass(frozen=True)
class UnixAddress:
    """A socket in the file system."""

    path: Path

    def __str__(self) -> str:
        return f"unix://{self.path}"

    @property
    def is_loopback(self) -> bool:
        return True


Address = TcpAddress | UnixAddress


def parse_address(text: str) -> Address:
    """The address that ``text`` writes.

    Raises:
        BadValue: it is none; the message shows two.

    >>> str(parse_address("tcp://127.0.0.1:7717"))
    'tcp://127.0.0.1:7717'
    """
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise BadValue(f"{text!r} is not an address ({error}); write {EXAMPLES}") from None
    if parts.query or parts.fragment or parts.username is not None:
        raise BadValue(f"{text!r} is not an address; write {EXAMPLES}")
    if parts.scheme == "unix" and not parts.netloc:
        return _unix(text, parts.path)
    if parts.scheme == "tcp" and host and port is not None and parts.path in ("", "/"):
        return TcpAddress(host, port)
    raise BadValue(f"{text!r} is not an address; write {EXAMPLES}")


def with_scheme(text: str) -> str:
    """``text``, which may leave out ``tcp://``."""
    return text if "://" in text else f"tcp://{text}"


def _unix(text: str, path: str) -> UnixAddress:
    if not path.startswith("/") or path == "/":
        raise BadValue(f"{text!r} names no absolute path; write 'unix:///tmp/remora.sock'")
    if len(path.encode()) > MOST_PATH_BYTES:
        raise BadValue(
            f"the path of {text!r} has {len(path.encode())} bytes; "
            f"a socket's path has at most {MOST_PATH_BYTES}: choose a shorter one"
        )
    return UnixAddress(Path(path))


def open_socket(address: Address, timeout_s: float) -> socket.socket:
    """A socket connected to ``address``. ``OSError`` where nobody answers."""
    if isinstance(address, TcpAddress):
        return socket.create_connection((address.host, address.port), timeout=timeout_s)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.settimeout(timeout_s)
        sock.connect(str(address.path))
    except BaseException:
        sock.close()
        raise
    return sock
