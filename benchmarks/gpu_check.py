"""``make gpu-check``: every CUDA path, test and benchmark there is, as one table, in 8 minutes.

Runs from a checkout, also where only torch and the test tools are installed. Exits 0 when all
passes and where there is no CUDA device, 1 when something fails.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec
import torch

from benchmarks.page import machine, replace_section, table
from remora.lab.folder import Folder
from remora.lab.results import Analysis
from remora.workloads import registry as workloads

BUDGET_S = 460.0
"""No check is begun after this many seconds: the whole stays under eight minutes."""
_TOLERANCE = 5e-3
"""Relative difference of outcomes between CPU and CUDA at float32; kernels sum in other orders."""
_STEPS = 2


@dataclass(frozen=True)
class Row:
    """One thing checked."""

    what: str
    passed: bool
    seconds: float
    detail: str


Check = Callable[[], str]
"""Raises when it fails; says what was seen when it passes."""


def checks() -> Iterator[tuple[str, Check]]:
    """Everything, the quickest first."""
    yield "pytest -m cuda", _cuda_tests
    for name in workloads.names():
        yield f"workload {name}, CPU and CUDA agree", lambda name=name: _agrees(name)  # type: ignore[misc]
    yield "bench quick on cuda", _bench


def _cuda_tests() -> str:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-m", "cuda", "-p", "no:cacheprovider"],
        capture_output=True,
        text=True,
        timeout=240,
    )
    closing = done.stdout.strip().splitlines()[-1:] or [done.stderr[-200:]]
    if done.returncode != 0:
        raise RuntimeError(f"{closing[0]}\n{done.stdout[-3000:]}")
    return closing[0]


def _agrees(name: str) -> str:
    """Step on both devices from one seed; outcomes and speed."""
    values, seconds = {}, {}
    for device in ("cpu", "cuda"):
        torch.manual_seed(0)
        session = workloads.get(name).build("quick", torch.device(device))
        values[device] = [session.step().value for _ in range(_STEPS)]
        began = time.perf_counter()
        outcome = session.step()
        if device == "cuda":
            torch.cuda.synchronize()
        seconds[device] = time.perf_counter() - began
        del outcome
        session.close()
    worst = max(
        abs(a - b) / max(abs(a), abs(b), 1e-3)
        for a, b in zip(values["cpu"], values["cuda"], strict=True)
    )
    if not worst <= _TOLERANCE:
        raise RuntimeError(f"outcomes differ by {worst:.1e}: {values}")
    return (
        f"differ by {worst:.0e}; step {seconds['cpu'] * 1e3:.1f} ms on the CPU, "
        f"{seconds['cuda'] * 1e3:.1f} ms on CUDA"
    )


def _bench() -> str:
    """The first experiment on the device, at standard sizes, for two minutes."""
    with tempfile.TemporaryDirectory() as name:
        out = Path(name) / "results"
        done = subprocess.run(
            [
                *(sys.executable, "-m", "remora", "bench", "quick", "--device", "cuda"),
                *("--scale", "standard", "--seconds", "2", "--budget", "120s", "--blocks", "5"),
                *("--executor", "forkserver", "--out", str(out)),
            ],
            capture_output=True,
            text=True,
            timeout=240,
        )
        if done.returncode != 0:
            raise RuntimeError(done.stderr[-3000:])
        raw = (Folder.open(out).path / "report" / "results.json").read_bytes()
    analysis = msgspec.json.decode(raw, type=Analysis)
    return "; ".join(f"{c.workload}/{c.label} {c.sentence}" for c in analysis.comparisons)


def run(check: Check) -> tuple[bool, str]:
    """Run one check; a failure is a row, not an end."""
    try:
        return True, check()
    except Exception as error:
        return False, f"{type(error).__name__}: {error}"


def main() -> int:
    """Run all checks within the budget and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="put the table into the docs")
    parser.add_argument("--out", type=Path, help="write the table to this file as well")
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        print("gpu-check: there is no CUDA device on this machine; nothing was checked")
        return 0
    rows, began = [], time.monotonic()
    for what, check in checks():
        if time.monotonic() - began > BUDGET_S:
            rows.append(Row(what, False, 0.0, "not begun: the time was spent"))
            continue
        started = time.monotonic()
        passed, detail = run(check)
        rows.append(Row(what, passed, time.monotonic() - started, detail))
        word = "ok  " if passed else "FAIL"
        print(f"{word} {what} ({rows[-1].seconds:.1f} s): {detail}", flush=True)
    body = f"{machine()}\n\n{_table(rows)}"
    print(f"\n{body}")
    if arguments.out:
        arguments.out.write_text(body + "\n")
    if arguments.write:
        replace_section("gpu", "On a CUDA device", body)
    return 0 if all(row.passed for row in rows) else 1


def _table(rows: list[Row]) -> str:
    return table(
        ["checked", "result", "detail", "seconds"],
        [
            [
                row.what,
                "passed" if row.passed else "**failed**",
                row.detail.replace("\n", " ").replace("|", "\\|")[:400],
                f"{row.seconds:.1f}",
            ]
            for row in rows
        ],
        left=3,
    )


if __name__ == "__main__":
    sys.exit(main())
