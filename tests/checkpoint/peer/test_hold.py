"""``remora checkpoint hold`` as a process: it is killed, and training goes on."""

from __future__ import annotations

import contextlib
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from tests.checkpoint.tiers.builders import commit, open_folder

from remora.checkpoint.checkpointer import Checkpointer
from remora.checkpoint.tiers.copier import Copier
from remora.checkpoint.tiers.pacing import Backoff
from remora.checkpoint.tiers.shelves import open_shelf

Process = subprocess.Popen[str]


@contextlib.contextmanager
def hold(*arguments: str, listen: str = "127.0.0.1:0") -> Iterator[tuple[Process, str]]:
    """The process, and the address that it says it listens on."""
    command = [sys.executable, "-m", "remora", "checkpoint", "hold", "--memory", "64MiB"]
    process = subprocess.Popen(
        [*command, "--listen", listen, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        found = re.fullmatch(r"holding checkpoints in 64\.0 MiB on (\S+)\n", line)
        assert found, (line, process.stderr and process.stderr.read())
        yield process, found[1]
    finally:
        process.kill()
        process.communicate()


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.002)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda each: each.name)
def test_it_ends_well_when_told_to(number: signal.Signals) -> None:
    with hold() as (process, address):
        shelf = open_shelf(f"peer://{address}/run")
        assert shelf.copies() == []
        process.send_signal(number)
        assert process.wait(20) == 0


def test_a_peer_that_is_killed_in_the_middle_is_found_again_when_it_is_back() -> None:
    said: list[str] = []
    folder = open_folder()
    with hold() as (process, address):
        shelf = open_shelf(f"peer://{address}/run")
        copier = Copier(
            folder, shelf, run=lambda: "a" * 16, who="me", say=said.append,
            bytes_s=5e6, backoff=Backoff(0.01, 0.05),
        )  # fmt: skip
        folder.on_commit.append(copier.committed)
        commit(folder, 1, elements=4_000_000)  # 16 MB take three seconds: it will not be whole
        until(lambda: shelf.owner() is not None)
        time.sleep(0.3)
        process.kill()
        process.wait()
        until(lambda: copier.counters.failed >= 3)
        entry = commit(folder, 2)
        assert entry.step == 2
    assert copier.counters.copied == 0
    with hold(listen=address):
        # Its memory is gone, and with it the owner: the copier claims the place anew.
        until(lambda: copier.counters.last_step == 2)
        assert [copy.entry.step for copy in shelf.copies()] == [2]
        copier.close(5)  # while the peer is there: it may still be removing old copies
    folder.close()
    assert len(said) == 2
    assert "step 1 could not be copied to" in said[0]
    assert "works again: step 2 is there" in said[1]


def test_a_machine_is_lost_and_its_run_goes_on_from_the_peer(tmp_path: Path) -> None:
    def train(until: int, second: str) -> tuple[int, list[float]]:
        torch.manual_seed(0)
        model = torch.nn.Linear(32, 32)
        optimizer = torch.optim.Adam(model.parameters())
        losses = []
        with Checkpointer(tmp_path / "a", every=3, when_slow="block", second=second) as saver:
            begin = saver.restore(model=model, optimizer=optimizer) or 0
            for step in range(begin, until):
                optimizer.zero_grad()
                loss = model(torch.randn(4, 32)).square().mean()
                loss.backward()
                optimizer.step()
                saver.step(step)
                losses.append(float(loss.detach()))
        return begin, losses

    token = tmp_path / "token"
    token.write_text("0123456789abcdef0123")
    with hold("--token-file", str(token)) as (_, address):
        _, whole = train(12, (tmp_path / "copies").as_uri())
        shutil.rmtree(tmp_path / "a")
        url = f"peer://{address}/runs/a?token_file={token}"
        train(6, url)
        shutil.rmtree(tmp_path / "a")
        begin, rest = train(12, url)
    assert begin == 6
    assert rest == whole[6:]


def test_it_holds_nothing_of_torch() -> None:
    """A peer is light: what it needs is memory for checkpoints."""
    code = "import remora.checkpoint.peer.server, sys; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--listen", "0.0.0.0:0"), "give a --token-file, or listen on 127.0.0.1"),
        (("--listen", "nonsense"), "write host:port"),
        (("--token-file", "/nowhere"), "cannot be read"),
        (("--certificate", "/nowhere"), "cannot be used"),
        (("--memory", "lots"), "is not a size"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, tuple) else None,
)
def test_a_mistake_is_said_in_one_line(arguments: tuple[str, ...], message: str) -> None:
    command = [sys.executable, "-m", "remora", "checkpoint", "hold", "--memory", "1MiB"]
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_port_that_is_taken_is_said() -> None:
    with hold() as (_, address):
        test_a_mistake_is_said_in_one_line(("--listen", address), "cannot be listened on: Address")


def test_garbage_in_threads_never_ends_the_process() -> None:
    import random
    import socket

    def shout(seed: int, host: str, port: int) -> None:
        generator = random.Random(seed)
        for _ in range(20):
            with (
                contextlib.suppress(OSError),
                socket.create_connection((host, port), 5) as stranger,
            ):
                stranger.sendall(b"RMRP\1\0\0\0"[: generator.randrange(9)])
                stranger.sendall(generator.randbytes(generator.randrange(200)))
                stranger.shutdown(socket.SHUT_WR)
                while stranger.recv(1000):
                    pass

    with hold() as (process, address):
        host, port = address.rsplit(":", 1)
        threads = [threading.Thread(target=shout, args=(n, host, int(port))) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert process.poll() is None
        assert open_shelf(f"peer://{address}/run").copies() == []
        process.terminate()
        _, errors = process.communicate(timeout=20)
    assert errors == ""
