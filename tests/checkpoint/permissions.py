"""A folder that this process may read and not write, also where it runs as root."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

NOBODY = 65534


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    paths = [*folder.rglob("*"), folder, *folder.parents[:-1]]
    before = {path: stat.S_IMODE(path.stat().st_mode) for path in paths}
    root = os.geteuid() == 0
    for path, mode in before.items():
        if root and path.stat().st_uid == 0:
            path.chmod(mode & ~0o022 | (0o055 if path.is_dir() else 0o044))
        elif path == folder or folder in path.parents:
            path.chmod(mode & ~0o222)
    if root:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)
        for path, mode in before.items():
            if stat.S_IMODE(path.stat().st_mode) != mode:
                path.chmod(mode)
