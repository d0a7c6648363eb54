"""Servers as processes of this machine, each watched over by a thread. The twin of Ray's actors."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

from remora.remote.fleet.member import REFUSED
from remora.remote.fleet.spec import Spec

FIRST_PAUSE_S = 0.2
"""Before a server that has ended is started again; doubled while it does not last."""
LONGEST_PAUSE_S = 30.0
LASTS_S = 60.0
"""One that has run for so long is started again without delay."""
END_S = 3.0
"""How long a server may take to end; it has nothing that would have to be saved."""


class Processes:
    """As :class:`~remora.remote.fleet.places.Place` says.

    Args:
        told: told, in words, of servers that end.
    """

    def __init__(
        self, specs: Sequence[Spec], told: Callable[[str], object] = lambda words: None
    ) -> None:
        self._watched = [_Watched(spec, told) for spec in specs]

    def failed(self) -> Mapping[str, str]:
        return {each.name: each.failed for each in self._watched if each.failed}

    def short_of(self) -> str:
        ended = [f"{each.name} has ended {each.ends} times" for each in self._watched if each.ends]
        return ", ".join(ended) or "each is a process that imports torch; start fewer"

    def close(self) -> None:
        for each in self._watched:
            each.end()
        for each in self._watched:
            each.join()


class _Watched:
    """One server and the thread that starts it, and starts it again."""

    def __init__(self, spec: Spec, told: Callable[[str], object]) -> None:
        self.name, self.failed, self.ends = spec.name, "", 0
        self._spec, self._told = spec, told
        self._process: subprocess.Popen[bytes] | None = None
        self._ending = threading.Event()
        self._guard = threading.Lock()
        self._thread = threading.Thread(target=self._watch, name="remora-watch", daemon=True)
        self._thread.start()

    def end(self) -> None:
        with self._guard:
            self._ending.set()
            if self._process is not None and self._process.stdin is not None:
                self._process.stdin.close()  # it ends when its input does

    def join(self) -> None:
        """Wait for its end; one that does not come by itself, as it hangs, is killed."""
        self._thread.join(END_S)
        if self._thread.is_alive() and self._process is not None:
            self._process.kill()
        self._thread.join()

    def _watch(self) -> None:
        pause_s = FIRST_PAUSE_S
        while (process := self._started()) is not None:
            began_s = time.monotonic()
            said = self._said_until_its_end(process)
            if self._ending.is_set():
                return
            if process.returncode == REFUSED:
                self.failed = said
                self._told(f"{self.name} cannot serve: {said}")
                return
            self.ends += 1
            self._told(f"{self.name} ended ({process.returncode}); it is started again")
            if time.monotonic() - began_s > LASTS_S:
                pause_s = FIRST_PAUSE_S
            self._ending.wait(pause_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    def _started(self) -> subprocess.Popen[bytes] | None:
        with self._guard:
            if self._ending.is_set():
                return None
            self._process = subprocess.Popen(
                [sys.executable, "-m", "remora.remote.fleet.member"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                process_group=0,  # a Ctrl-C at the terminal is for who started it
            )
            if self._process.stdin is not None:
                with suppress(BrokenPipeError):  # it has ended already: that is seen next
                    self._process.stdin.write(self._spec.encoded() + b"\n")
                    self._process.stdin.flush()
            return self._process

    def _said_until_its_end(self, process: subprocess.Popen[bytes]) -> str:
        """What it wrote on its standard output: why it cannot serve, if so."""
        said = process.stdout.read() if process.stdout is not None else b""
        process.wait()
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                stream.close()
        return said.decode(errors="replace").strip()
