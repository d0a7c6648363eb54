"""Proving that both sides know a token, without sending it (HMAC-SHA256 over both nonces)."""

from __future__ import annotations

import hmac
import secrets
from pathlib import Path

from remora.checkpoint.peer.frames import NONCE_BYTES
from remora.core.errors import BadValue

_LEAST = 16


def read_token(file: Path) -> bytes:
    """The token in ``file``, without white space around it.

    Raises:
        BadValue: the file cannot be read, or its token is too short to be a secret.
    """
    try:
        token = file.read_bytes().strip()
    except OSError as error:
        raise BadValue(f"token file {str(file)!r} cannot be read: {error.strerror}") from None
    if len(token) < _LEAST:
        raise BadValue(
            f"the token in {str(file)!r} has {len(token)} characters; write at least {_LEAST} "
            f"random ones, such as {secrets.token_hex(8)}… from `openssl rand -hex 32`"
        )
    return token


def new_nonce() -> bytes:
    return secrets.token_bytes(NONCE_BYTES)


def prove(token: bytes | None, side: str, peers: bytes, jobs: bytes, name: str) -> bytes:
    """What ``side`` ("job" or "peer") sends to show that it knows ``token``; empty without one."""
    if token is None:
        return b""
    said = b"\0".join((side.encode(), peers.hex().encode(), jobs.hex().encode(), name.encode()))
    return hmac.digest(token, b"remora peer 1\0" + said, "sha256")


def proven(given: bytes, expected: bytes) -> bool:
    """In constant time."""
    return hmac.compare_digest(given, expected)
