"""Do something every second, beside the program."""

from __future__ import annotations

import threading
from collections.abc import Callable


class Pulse:
    """Calls ``beat`` every ``seconds`` from a daemon thread until stopped, or until it raises."""

    def __init__(self, beat: Callable[[], object], seconds: float = 1.0) -> None:
        self._beat, self._seconds = beat, seconds
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="remora-pulse", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """No beat begins after this has returned; harmless when done twice."""
        self._stopped.set()
        if self._thread is not threading.current_thread():
            self._thread.join()

    def _run(self) -> None:
        while not self._stopped.wait(self._seconds):
            try:
                self._beat()
            except OSError:
                return  # storage is full: whoever adds the next event hears of it
