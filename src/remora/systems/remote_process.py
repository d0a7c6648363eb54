"""A server of ours in a process of its own, for as long as the process that started it lives."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import cached_property
from pathlib import Path

import msgspec

from remora.core.errors import Unavailable

_END_S = 10.0


class Serving(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a server process is told, as JSON."""

    device: str
    threads: int
    policy: str = ""
    """Who runs next; empty for fair turns."""
    cores: list[int] = []
    """Where it is to compute: what it does beside that, as a driver would, is done anywhere. Empty
    for anywhere, too."""
    slices_folder: str = ""
    """Where it is kept how operators are cut; empty for nowhere."""


class ServerProcess:
    """Started with the thread count of the trial; it ends when its standard input does."""

    def __init__(self, serving: Serving) -> None:
        text = msgspec.json.encode(serving).decode()
        command = [sys.executable, "-m", "remora.systems.remote_process", text]
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


def main(serving: Serving) -> None:
    """Serve until standard input ends."""
    import torch

    from remora.core.saying import say
    from remora.remote.server.garbage import collected_while_idle
    from remora.remote.server.server import Server
    from remora.share.policies.registry import parse_choice

    torch.set_num_threads(serving.threads)
    server = Server(
        "tcp://127.0.0.1:0",
        serving.device,
        policy=parse_choice(serving.policy) if serving.policy else None,
        slices_folder=Path(serving.slices_folder) if serving.slices_folder else None,
        troubled=say if serving.policy else _nothing,
    )
    if serving.cores:
        os.sched_setaffinity(server.house.engine.thread_id, serving.cores)
    with server, collected_while_idle(server.house.is_idle):
        print(server.address, flush=True)
        sys.stdin.read()
    os._exit(0)  # nothing is left to do, and torch takes a second to be taken apart


def _nothing(words: str) -> None:
    """Connections that end with their trial are no trouble."""


if __name__ == "__main__":
    main(msgspec.json.decode(sys.argv[1], type=Serving))
