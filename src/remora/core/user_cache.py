"""Where users' caches are: what is there may be removed at any time, and is made anew."""

from __future__ import annotations

import os
from pathlib import Path


def user_cache() -> Path:
    """Ours, by the convention of the system (XDG Base Directory)."""
    root = os.environ.get("XDG_CACHE_HOME")
    base = Path(root) if root and Path(root).is_absolute() else Path.home() / ".cache"
    return base / "remora"
