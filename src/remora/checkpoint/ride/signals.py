"""SIGTERM, the notice before a preemption: ask for a last checkpoint, then go."""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType

EXIT_CODE = 128 + signal.SIGTERM


class Notice:
    """Whether the process has been told to end.

    A script that installs its own handler afterwards replaces this one, and gets it as the previous
    handler to call. One that was there before stays.
    """

    def __init__(self) -> None:
        self.given = False
        self._installed = False

    def install(self) -> None:
        """Harmless in a thread that may not, or where SIGTERM is handled or ignored already."""
        if threading.current_thread() is not threading.main_thread():
            return
        if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
            signal.signal(signal.SIGTERM, self._on_signal)
            self._installed = True

    def remove(self) -> None:
        """Put the default back, unless the script has put something there."""
        if self._installed and signal.getsignal(signal.SIGTERM) == self._on_signal:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
        self._installed = False

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self.given:
            os._exit(EXIT_CODE)
        self.given = True
