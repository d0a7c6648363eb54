"""Where the jobs of one user find each other: a folder that is gone after a reboot."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path

from remora.core.errors import RosterUnusable


def runtime_folder(environment: Mapping[str, str] = os.environ, temporary: str = "/tmp") -> Path:
    """``remora`` in ``XDG_RUNTIME_DIR`` where that is the user's own, else ``/tmp/remora-UID``."""
    given = environment.get("XDG_RUNTIME_DIR", "")
    if given and _is_own(Path(given)):
        return Path(given) / "remora"
    return Path(temporary) / f"remora-{os.getuid()}"


def _is_own(folder: Path) -> bool:
    try:
        found = folder.stat()
    except OSError:
        return False
    return (
        stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and os.access(folder, os.W_OK)
    )


def open_folder(folder: Path) -> None:
    """Make ``folder`` for its user alone, or see that it is.

    Raises:
        RosterUnusable: it cannot be made or written, or belongs to someone else.
    """
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
    except OSError as error:
        raise RosterUnusable(
            f"folder {folder}: {error.strerror}; make it writable, or set XDG_RUNTIME_DIR"
        ) from None
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise RosterUnusable(
            f"folder {folder} belongs to someone else; remove it, or set XDG_RUNTIME_DIR"
        )
    if stat.S_IMODE(found.st_mode) & 0o077:
        raise RosterUnusable(f"folder {folder} is open to others; run: chmod 700 {folder}")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise RosterUnusable(f"folder {folder} cannot be written; run: chmod 700 {folder}")
