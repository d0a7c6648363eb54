"""The published files, where they lie next to the repository; they are not part of it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

_SHARED = Path(os.environ.get("REMORA_SHARED", Path(__file__).parents[4] / "shared"))
_FOLDER = _SHARED / "data" / "traincheck"


def published(name: str) -> Path:
    """The file or folder of that name; the test is skipped where it is not."""
    path = _FOLDER / name
    if not path.exists():
        pytest.skip(f"{path} is not there; REMORA_SHARED names the folder that holds data/")
    return path
