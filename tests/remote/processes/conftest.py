"""`remora serve` as its users start it: a process, which can be killed and started again."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import psutil
import pytest

from remora.remote.client.server import RemoteServer, connect


class Serve:
    """A server process at an address that stays the same when it is started again."""

    def __init__(self, *options: str) -> None:
        self._options = options
        self.address = "127.0.0.1:0"
        self.start()

    def start(self) -> None:
        """Start it; returns when it serves."""
        self.process = subprocess.Popen(
            [sys.executable, "-m", "remora", "serve", "--listen", self.address, *self._options],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        said = self.process.stdout.readline()
        assert said.startswith("serving cpu on tcp://"), said
        self.address = said.split()[3].removesuffix(":")

    def kill(self) -> None:
        """As the kernel does where memory runs out: no farewell. May be called again."""
        self.process.kill()
        self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()

    @property
    def rss_mib(self) -> float:
        """Memory that the process has now."""
        return float(psutil.Process(self.process.pid).memory_info().rss) / 2**20

    def counts(self) -> dict[str, int]:
        with connect(self.address) as server:
            return dict(server.counts())


@pytest.fixture(scope="module")
def serve() -> Iterator[Callable[..., Serve]]:
    """Starts servers that end with the module."""
    with ExitStack() as stack:

        def start(*options: str) -> Serve:
            started = Serve(*options)
            stack.callback(started.kill)
            return started

        yield start


def remote(there: Serve, **options: float) -> RemoteServer:
    return connect(there.address, **options)  # type: ignore[arg-type]


def within(seconds: float, condition: Callable[[], bool]) -> bool:
    """Whether ``condition`` comes true in time."""
    until = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > until:
            return False
        time.sleep(0.02)
    return True
