"""A secret that a client and a server share, kept in a file."""

from __future__ import annotations

import secrets
from pathlib import Path

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


def read_token_text(file: Path | None) -> str:
    """As :func:`read_token`, as text; empty where there is no file.

    Raises:
        BadValue: as there, or the token is no text.
    """
    if file is None:
        return ""
    try:
        return read_token(file).decode()
    except UnicodeDecodeError:
        raise BadValue(
            f"the token in {str(file)!r} is no text in UTF-8; write printable characters, such as "
            "those of `openssl rand -hex 32`"
        ) from None
