"""``remora fleet``: up, status and down, as a user types them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
import torch
from tests.cli.commands import call

import remora
from remora.remote.client.server import connect

TOKEN = "a token that is long enough"


def started(folder: Path, *options: str) -> tuple[subprocess.Popen[str], str]:
    """A fleet of two, and its address without a scheme."""
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "remora", "fleet", "up", "--servers", "2"),
            *("--on", "processes", "--listen", "127.0.0.1:0", "--silent", "2s", *options),
        ],
        cwd=folder,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"COLUMNS": "120"},
    )
    assert process.stdout is not None
    first = process.stdout.readline()
    assert "2 of 2 serve" in first, first
    while "Ctrl-C" not in process.stdout.readline():
        pass
    return process, first.split(": ")[0].removeprefix("fleet://")


@pytest.mark.slow
def test_a_fleet_goes_up_is_used_shown_and_goes_down(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(TOKEN)
    process, at = started(tmp_path, "--token-file", str(file))
    try:
        servers = psutil.Process(process.pid).children()
        with remora.connect(f"fleet://{at}", token_file=file) as fleet:
            model = torch.nn.Linear(3, 4)
            torch.testing.assert_close(fleet.load(model)(torch.ones(2, 3)), model(torch.ones(2, 3)))

        assert call("fleet", "status", at)[0] == 2
        code, shown, _ = call("fleet", "status", at, "--token-file", file)
        assert (code, shown.count("serving")) == (0, 2)
        assert f"fleet://{at}: 2 of 2 serve" in shown

        drain = ("fleet", "drain", "server-1", at, "--within", "1min", "--token-file", file)
        code, shown, _ = call(*drain)
        assert (code, shown) == (0, "server-1 drains; `remora fleet status` says when it has\n")
        while "drained" not in shown:
            code, shown, _ = call("fleet", "status", at, "--token-file", file)
        assert (code, "1 of 2 serve" in shown) == (1, True)

        code, shown, _ = call("fleet", "down", at, "--token-file", file)
        assert (code, shown) == (0, f"the fleet at fleet://{at} ends\n")
        assert process.wait(20) == 0
        assert not any(each.is_running() for each in servers)
    finally:
        process.kill()
        process.communicate()


@pytest.mark.slow
def test_servers_do_not_outlive_a_fleet_that_is_killed(tmp_path: Path) -> None:
    process, at = started(tmp_path)
    servers = psutil.Process(process.pid).children()
    assert len(servers) == 2
    servers[0].send_signal(signal.SIGSTOP)
    code, shown, _ = call("fleet", "status", at)
    while code == 0:
        code, shown, _ = call("fleet", "status", at)
    assert code == 1
    assert "no answer within 2 s" in shown
    servers[0].send_signal(signal.SIGCONT)
    process.kill()
    process.communicate()

    assert psutil.wait_procs(servers, 10)[1] == []


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--servers", "0"], None),
        (["--servers", "1", "--on", "processes", "--address", "auto"], "--address is of a Ray"),
        (["--servers", "1", "--on", "processes", "--device", "tpu"], "no device 'tpu' here"),
        (["--servers", "1", "--on", "processes", "--listen", "0.0.0.0:0"], "there is no token"),
        (["--servers", "1", "--on", "processes", "--listen", "nowhere"], "is not an address"),
        (["--servers", "1", "--on", "processes", "--cert", "c.pem"], "--cert and --key go"),
    ],
)
def test_what_is_asked_wrongly_is_said_in_one_line(options: list[str], said: str | None) -> None:
    code, _, errors = call("fleet", "up", *options)

    assert code == 2
    if said is not None:
        assert said in errors
        assert len([line for line in errors.splitlines() if line.startswith("remora: ")]) >= 1


def test_without_ray_it_says_what_brings_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    code, _, errors = call("fleet", "up", "--servers", "1")

    assert code == 2
    assert "pip install 'remora[ray]', or use --on processes" in errors


def test_nobody_there_is_said_in_one_line() -> None:
    for command in ("status", "down"):
        code, _, errors = call("fleet", command, "127.0.0.1:1")
        assert code == 2
        assert "cannot be reached" in errors
        assert errors.count("\n") == 1
    with pytest.raises(remora.BadValue, match="is not an address"):
        connect("nowhere")
