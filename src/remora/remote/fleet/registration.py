"""A server's end of the directory: it says where it is, and again when the directory lost it."""

from __future__ import annotations

import threading
from collections.abc import Callable

from remora.core.errors import LinkLost, RemoraError
from remora.remote.fleet.messages import Join
from remora.remote.wire.channel import Channel


class Registration:
    """Joins, in a thread of its own, and stays joined until it is closed.

    Args:
        dial: connects to the directory.
        join: what to say there.
        again_s: how long to wait before joining anew.
        refused: told why the directory does not take this server; it is not tried again.
    """

    def __init__(
        self,
        dial: Callable[[], Channel],
        join: Join,
        *,
        again_s: float = 0.5,
        refused: Callable[[str], object] = lambda words: None,
    ) -> None:
        self._dial, self._join, self._again_s, self._refused = dial, join, again_s, refused
        self._channel: Channel | None = None
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._stay, name="remora-joined", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Leave. May be called again."""
        self._closing.set()
        if self._channel is not None:
            self._channel.close()
        self._thread.join()

    def _stay(self) -> None:
        while not self._closing.is_set():
            try:
                self._joined()
            except LinkLost:
                self._closing.wait(self._again_s)
            except RemoraError as error:
                self._refused(str(error))
                return

    def _joined(self) -> None:
        """Stays: the directory says nothing after its first word, until one of the two ends."""
        with self._dial() as self._channel:
            if self._closing.is_set():
                return
            for _ in self._channel.stream(self._join):
                pass
