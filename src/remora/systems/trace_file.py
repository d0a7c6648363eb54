"""Where the tracing systems write: JSON lines through a buffer, bytes counted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec


class TraceFile:
    """Append records to ``path``, one JSON line each."""

    _FLUSH_BYTES = 1 << 20

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb", buffering=0)
        self._encoder = msgspec.json.Encoder()
        self._buffer = bytearray()
        self.bytes_written = self.records = 0

    def write(self, record: Any) -> None:
        self.records += 1
        self._buffer += self._encoder.encode(record)
        self._buffer += b"\n"
        if len(self._buffer) >= self._FLUSH_BYTES:
            self.flush()

    def flush(self) -> None:
        self._file.write(self._buffer)
        self.bytes_written += len(self._buffer)
        self._buffer.clear()

    def close(self) -> None:
        if not self._file.closed:
            self.flush()
            self._file.close()
