"""The trace of a rank that does not learn itself, kept until the first asks for it."""

from __future__ import annotations

import tempfile
from io import RawIOBase
from typing import cast

from remora.check.trace.recorder import Recorder

MOST_BYTES = 64 << 20
"""Of a run's trace that is kept: about two million events."""


def temporary() -> RawIOBase:
    """A file that goes with the process."""
    return cast(RawIOBase, tempfile.TemporaryFile(buffering=0))


class KeptTrace(Recorder):
    """Records into a file that goes with the process."""

    def __init__(self, *, program: str, rank: int = 0, most_bytes: int = MOST_BYTES) -> None:
        self.kept = temporary()
        super().__init__(self.kept, program=program, rank=rank, most_bytes=most_bytes)

    def trace(self) -> bytes:
        """All of it so far."""
        with self._lock:
            self.flush()
            self.kept.seek(0)
            return self.kept.readall() or b""
