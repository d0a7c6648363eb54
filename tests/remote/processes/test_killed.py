"""A server process that is killed, in the middle of each thing that it may be doing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tests.remote.conftest import decoded_here, prompt
from tests.remote.processes.conftest import Serve, remote, within

from remora.core.errors import ServerLost
from remora.remote.client.placed import Placed
from remora.remote.client.server import RemoteServer, connect
from remora.remote.client.session import RemoteSession
from remora.remote.wire.relay import Relay

pytestmark = pytest.mark.slow  # each starts processes that import torch


class Long(torch.nn.Module):
    """Computes for a second or so."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.eye(500))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for _ in range(200):
            x = x @ self.weight
        return x


class Large(torch.nn.Module):
    """128 MiB of weights, in two requests' worth."""

    def __init__(self) -> None:
        super().__init__()
        self.weights = torch.nn.ParameterList(
            torch.nn.Parameter(torch.full((2**20, 4), float(index))) for index in range(8)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for weight in self.weights:
            x = x + weight[:1]
        return x


@pytest.fixture(scope="module")
def there(serve: Callable[..., Serve]) -> Serve:
    return serve("--threads", "1")


def killed_and_started(there: Serve) -> None:
    there.kill()
    threading.Thread(target=there.start).start()


def session(server: RemoteServer, decoder: Placed) -> RemoteSession:
    return RemoteSession(server, Placed(decoder.captured, decoder=True), deadline_s=None)


def test_tokens_go_on_from_a_server_that_was_started_again(
    there: Serve, decoder: Placed, language_model: torch.nn.Module
) -> None:
    taken = []
    with remote(there, reconnect_s=60) as server, session(server, decoder) as one:
        one.prefill(prompt(5))
        for token in one.generate(200):
            taken.append(token)
            if len(taken) == 20:
                killed_and_started(there)

        assert taken == decoded_here(language_model, prompt(5), 200)
        assert one.recoveries >= 1


def test_a_call_under_way_is_made_again(there: Serve) -> None:
    model, x = Long(), torch.randn(500, 500)
    with remote(there, reconnect_s=60) as server:
        placed = server.load(model)
        placed(x)
        timer = threading.Timer(0.1, killed_and_started, args=(there,))
        timer.start()
        torch.testing.assert_close(placed(x), model(x))
        timer.join()
        assert within(60, lambda: there.process.poll() is None)


def test_an_upload_under_way_is_taken_up_again(there: Serve) -> None:
    model = Large()
    with (
        Relay(there.address, bits_per_s=400e6) as relay,
        connect(str(relay.address), reconnect_s=60) as server,
    ):

        def kill() -> None:
            assert within(60, lambda: server.counted.bytes_sent > 80 * 2**20)
            killed_and_started(there)

        killer = threading.Thread(target=kill)
        killer.start()
        result = server.load(model)(torch.zeros(1, 4))
        killer.join()

    assert result.tolist() == [[28.0] * 4]


def waiting_for(what: str, server: RemoteServer, decoder: Placed) -> Callable[[], object]:
    """What waits for the server for a while."""
    if what == "a call":
        placed, x = server.load(Long()), torch.randn(500, 500)
        placed(x)
        return lambda: placed(x)
    one = session(server, decoder)
    one.prefill(prompt(5))

    def generate() -> None:
        one.rewind(5)
        list(one.generate(200))

    return generate


@pytest.mark.parametrize("what", ["a call", "a session"])
def test_without_reconnecting_the_loss_is_told_at_once(
    there: Serve, decoder: Placed, what: str
) -> None:
    with remote(there, reconnect_s=0) as server:
        waits = waiting_for(what, server, decoder)
        killed = []

        def kill() -> None:
            killed.append(time.monotonic())
            there.kill()

        timer = threading.Timer(0.1, kill)
        timer.start()
        with pytest.raises(ServerLost):
            while True:
                waits()
        took_s = time.monotonic() - killed[0]
        timer.join()
    there.start()
    assert took_s < 3


def test_a_program_that_is_killed_in_the_middle_of_its_upload_leaves_nothing(
    there: Serve, tmp_path: Path
) -> None:
    script = tmp_path / "uploads.py"
    script.write_text(
        "import sys, torch, remora\n"
        "from tests.remote.processes.test_killed import Large\n"
        "server = remora.connect(sys.argv[1])\n"
        "server.load(Large())(torch.ones(1, 4))\n"
    )
    remote(there).close()  # all that a first connection takes
    held, before_mib = there.counts(), there.rss_mib
    with Relay(there.address, bits_per_s=100e6) as relay:
        program = subprocess.Popen(
            [sys.executable, str(script), str(relay.address)],
            env=os.environ | {"PYTHONPATH": os.pathsep.join([p for p in sys.path if p])},
        )
        try:
            assert within(60, lambda: there.rss_mib > before_mib + 15), "half of it is there"
        finally:
            program.send_signal(signal.SIGKILL)
            program.wait()

    assert within(10, lambda: there.counts() | UNCOUNTED == held | UNCOUNTED)
    with remote(there) as server:
        assert server.load(torch.nn.Linear(2, 2))(torch.ones(1, 2)).shape == (1, 2)


UNCOUNTED = dict.fromkeys(
    ("wire_sent_bytes", "wire_received_bytes", "shared_sent_bytes", "shared_received_bytes"), 0
)
"""Of the connection that asks."""


def test_a_port_in_use_is_said_in_one_line(there: Serve) -> None:
    second = subprocess.run(
        [sys.executable, "-m", "remora", "serve", "--listen", there.address],
        capture_output=True,
        text=True,
        timeout=120,
    )

    assert second.returncode == 2
    assert "is in use by another server; stop that one or choose another port" in second.stderr
    assert second.stderr.count("\n") == 1
    assert there.counts()["sessions"] == 0
