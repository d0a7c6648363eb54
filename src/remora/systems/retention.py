"""The newest checkpoints stay on disk; older ones are removed beside the job, not in its way."""

from __future__ import annotations

import shutil
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

KEPT = 2
"""Checkpoints that every system leaves on disk, as ours does: with one, a damaged newest is all."""


class Retention:
    """Removes all but the newest ``kept`` checkpoints, files or folders, in a thread of its own."""

    def __init__(self, kept: int = KEPT) -> None:
        self._kept = kept
        self._checkpoints: deque[Path] = deque()
        self._thread = ThreadPoolExecutor(1, "remora-retention")
        self._removals: list[Future[None]] = []

    @property
    def newest(self) -> Path | None:
        return self._checkpoints[-1] if self._checkpoints else None

    def add(self, checkpoint: Path) -> None:
        """``checkpoint`` is complete: those it makes superfluous go."""
        self._checkpoints.append(checkpoint)
        while len(self._checkpoints) > self._kept:
            older = self._checkpoints.popleft()
            self._removals.append(self._thread.submit(_remove, older))

    def wait(self) -> None:
        """Return when what has to go is gone."""
        while self._removals:
            self._removals.pop().result()

    def close(self) -> None:
        self._thread.shutdown()


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
