"""What a copy elsewhere costs: bytes a second there and back, and CPU on both sides."""

from __future__ import annotations

import contextlib
import io
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import torch

from benchmarks.page import table
from remora.checkpoint.checkpointer import Checkpointer

STATE_BYTES = 480 * 10**6
ROUNDS = 7


@dataclass(frozen=True)
class Copies:
    """Medians over the rounds. Rates are of state, in bytes a second."""

    where: str
    there: float
    """From the commit on disk until the copy is whole there."""
    back: float
    """A restore from there, verified."""
    cpu_here: float
    """CPU seconds of the job for a GB copied."""
    cpu_there: float | None
    """CPU seconds of the peer for a GB copied."""


def measure(where: str, url: str, scratch: Path, holder: psutil.Process | None) -> Copies:
    """Save, wait until it is durable, then until it is copied; then restore. ``ROUNDS`` times."""
    model = torch.nn.Linear(1, STATE_BYTES // 8)
    took, back, here, there = [], [], [], []
    with Checkpointer(scratch, second=url) as saver, contextlib.redirect_stderr(io.StringIO()):
        saver.track(model=model)
        for step in range(1, ROUNDS + 1):
            saver.save(step)
            saver.wait()
            began, cpu, cpu_there = time.perf_counter(), time.process_time(), _cpu_s(holder)
            while saver.elsewhere.counters[url].last_step != step:
                time.sleep(0.001)
            took.append(time.perf_counter() - began)
            here.append(time.process_time() - cpu)
            there.append(_cpu_s(holder) - cpu_there)
            began = time.perf_counter()
            saver.restore(source="second")
            back.append(time.perf_counter() - began)
    gigabytes = STATE_BYTES / 1e9
    return Copies(
        where,
        STATE_BYTES / statistics.median(took),
        STATE_BYTES / statistics.median(back),
        statistics.median(here) / gigabytes,
        statistics.median(there) / gigabytes if holder is not None else None,
    )


def _cpu_s(process: psutil.Process | None) -> float:
    if process is None:
        return 0.0
    times = process.cpu_times()
    return float(times.user + times.system)


@contextlib.contextmanager
def held() -> Iterator[tuple[str, psutil.Process]]:
    """A peer in a process of its own, on loopback."""
    command = [sys.executable, "-m", "remora", "checkpoint", "hold"]
    arguments = ["--memory", str(4 * STATE_BYTES), "--listen", "127.0.0.1:0"]
    with subprocess.Popen([*command, *arguments], stdout=subprocess.PIPE, text=True) as process:
        try:
            address = (process.stdout.readline() if process.stdout else "").split()[-1]
            yield f"peer://{address}/benchmark", psutil.Process(process.pid)
        finally:
            process.terminate()


def section() -> str:
    """The section's text."""
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        scratch = Path(folder)
        with held() as (url, holder):
            peer = measure("a peer, over loopback", url, scratch / "a", holder)
        files = measure("files (fsspec)", (scratch / "there").as_uri(), scratch / "b", None)
    rows = [
        (
            each.where,
            f"{each.there / 1e9:.2f}",
            f"{each.back / 1e9:.2f}",
            f"{each.cpu_here:.2f}",
            "–" if each.cpu_there is None else f"{each.cpu_there:.2f}",
        )
        for each in (peer, files)
    ]
    columns = ("to", "there, GB/s", "back, GB/s", "CPU here, s/GB", "CPU there, s/GB")
    return (
        f"{STATE_BYTES // 10**6} MB of state, medians of {ROUNDS}. *There*: from the commit on "
        "disk until the copy is whole, every chunk read back and verified on the way. *Back*: a "
        f"restore from it. Load of the machine: {psutil.getloadavg()[0]:.1f} on "
        f"{psutil.cpu_count()} cores.\n\n{table(columns, rows)}"
    )
