"""Jobs as processes of their own, for tests, started under ``remora run``.

Each in a session of its own: where sessions are groups of the scheduler, an idle job among other
tests gets CPU time at all.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from remora.share.system import processes

SPIN = """
import sys, time
print("ready", flush=True)
until = time.monotonic() + float(sys.argv[1])
while time.monotonic() < until:
    sum(range(1000))
print("done", flush=True)
"""
"""A job that computes for so many seconds."""

SLEEP = """
import sys, time
print("ready", flush=True)
time.sleep(float(sys.argv[1]))
"""
"""A job that does nothing."""

SERVE = """
import sys, time, torch
torch.set_num_threads(1)
seconds, gap = float(sys.argv[1]), float(sys.argv[2])

class Wait(torch.nn.Module):
    def forward(self, x):
        time.sleep(gap)
        return x

model = Wait()
model(torch.zeros(1))
print("ready", flush=True)
until = time.monotonic() + seconds
while time.monotonic() < until:
    model(torch.zeros(1))
    time.sleep(gap)
print("done", flush=True)
"""
"""A job whose forwards take ``gap`` seconds, with as much between them."""


def environment(folder: Path, extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """With a roster in ``folder``."""
    kept = {key: value for key, value in os.environ.items() if key != "OMP_WAIT_POLICY"}
    return kept | {"XDG_RUNTIME_DIR": str(folder), "COLUMNS": "120"} | dict(extra or {})


def start(
    folder: Path,
    code: str,
    *arguments: str,
    options: tuple[str, ...] = (),
    before: str = "",
    takes_lines: bool = False,
) -> subprocess.Popen[str]:
    """``remora run OPTIONS`` of ``code``; returns once it has printed ``ready``."""
    script = folder / f"job{abs(hash(code)) % 9973}.py"
    script.write_text(code)
    job = subprocess.Popen(
        [sys.executable, *_remora(before), "run", *options, str(script), *arguments],
        env=environment(folder), cwd=folder, text=True,
        stdin=subprocess.PIPE if takes_lines else None,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    assert job.stdout is not None
    assert job.stdout.readline() == "ready\n", job.communicate()
    return job


def run(
    folder: Path, *arguments: str, extra: Mapping[str, str] | None = None, before: str = ""
) -> subprocess.CompletedProcess[str]:
    """``remora ARGUMENTS``, after ``before`` has been executed in its process."""
    return subprocess.run(
        [sys.executable, *_remora(before), *arguments],
        env=environment(folder, extra), cwd=folder, text=True, capture_output=True, timeout=120,
        check=False, start_new_session=True,
    )  # fmt: skip


def _remora(before: str) -> list[str]:
    """The command, in a process that has executed ``before``."""
    if not before:
        return ["-m", "remora"]
    return ["-c", f"{before}\nfrom remora.cli import main\nmain()"]


def wait_until(what: Callable[[], object], within_s: float = 20.0) -> float:
    """Seconds until ``what()`` is true."""
    began = time.monotonic()
    while not what():
        assert time.monotonic() - began < within_s, "it did not happen in time"
        time.sleep(0.005)
    return time.monotonic() - began


def state(pid: int) -> str:
    """As ``ps`` shows it."""
    found = processes.stat(pid)
    return "gone" if found is None else found.state


def names(folder: Path) -> set[str]:
    """What is in the runtime folder."""
    return {each.name for each in (folder / "remora").iterdir()}
