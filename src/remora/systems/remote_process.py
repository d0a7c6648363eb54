"""A server of ours in a process of its own, for as long as the process that started it lives."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import cached_property

from remora.core.errors import Unavailable

_END_S = 10.0


class ServerProcess:
    """Started with the thread count of the trial; it ends when its standard input does."""

    def __init__(self, device: str, threads: int) -> None:
        command = [sys.executable, "-m", "remora.systems.remote_process", device, str(threads)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.pid = self._process.pid

    @cached_property
    def address(self) -> str:
        """Where it listens, once it does.

        Raises:
            Unavailable: it ended before that.
        """
        line = self._process.stdout.readline() if self._process.stdout else ""
        if not line:
            self.close()
            raise Unavailable("the server that models run on did not start; its log says why")
        return line.strip()

    def close(self) -> None:
        """End it. May be called again."""
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()
        try:
            self._process.wait(_END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def main(device: str, threads: int) -> None:
    """Serve until standard input ends."""
    import torch

    from remora.remote.server.server import Server

    torch.set_num_threads(threads)
    with Server("tcp://127.0.0.1:0", device) as server:
        print(server.address, flush=True)
        sys.stdin.read()
    os._exit(0)  # nothing is left to do, and torch takes a second to be taken apart


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
