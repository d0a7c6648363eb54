"""Proving that both sides know a token, without sending it (HMAC-SHA256 over both nonces)."""

from __future__ import annotations

import hmac
import secrets

from remora.checkpoint.peer.frames import NONCE_BYTES


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
