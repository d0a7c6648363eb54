"""The checks of ``make gpu-check``, each a row of its table."""

from __future__ import annotations

import argparse
import io
import itertools
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec
import torch

from benchmarks import gpu_gate, gpu_hook, gpu_remote
from benchmarks.page import machine, replace_section, table
from benchmarks.workloads import measure
from remora.lab.folder import Folder
from remora.lab.results import Analysis
from remora.tap.job import Job
from remora.tap.service import Service
from remora.workloads import registry as workloads
from remora.workloads.contract import Session

BUDGET_S = 470.0
"""Everything ends within so many seconds: a check gets what is left, and is killed at its end."""
_BEGAN = time.monotonic()
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
    for row, (what, _) in gpu_remote.ROWS.items():
        yield what, lambda row=row: gpu_remote.in_a_process(row, "cuda:0", _left())  # type: ignore[misc]
    yield "share: hooks before operators", gpu_hook.hooks
    for row, (what, _) in gpu_gate.ROWS.items():
        yield what, lambda row=row: gpu_gate.in_a_process(row, "cuda:0", _left())  # type: ignore[misc]
    yield "workload step times at standard scale", _step_times
    yield "checkpoints of a state on the device", _checkpoints
    yield "invariants checked on the device", _checking
    yield "bench quick on cuda", _bench


def _left() -> float:
    return max(1.0, BUDGET_S - (time.monotonic() - _BEGAN))


def _cuda_tests() -> str:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-m", "cuda", "-p", "no:cacheprovider"],
        capture_output=True,
        text=True,
        timeout=_left(),
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


def _step_times() -> str:
    rows = measure("standard", "cuda", ("vgg16-train", "gpt2-train", "gpt2-decode"))
    return "; ".join(f"{row.name} {row.step_ms:.1f} ms" for row in rows)


def _checkpoints() -> str:
    """A training step of GPT-2 with a checkpoint at every step, beside one with none."""
    from remora.checkpoint.checkpointer import Checkpointer

    session = workloads.get("gpt2-train").build("standard", torch.device("cuda"))
    session.step()
    alone_s = _run_for(session.step)
    with tempfile.TemporaryDirectory() as name, Checkpointer(name, every=1, keep=2) as saver:
        saver.track(model=session.model, optimizer=session.optimizer)
        saver.save(1)
        saver.wait()
        counter = itertools.count()

        def step() -> None:
            session.step()
            saver.step(next(counter))

        ridden_s = _run_for(step)
        saver.wait()
        stall_ms = statistics.median(saver.counters.stall_ns) / 1e6
        gigabytes = saver.counters.bytes_written / saver.counters.committed / 1e9
        done, skipped = saver.counters.committed, saver.counters.skipped
    session.close()
    return (
        f"{gigabytes:.2f} GB; throughput {alone_s / ridden_s:.3f} x none, {done} committed, "
        f"{skipped} skipped; stall {stall_ms:.2f} ms"
    )


def _run_for(step: Callable[[], object], steps: int = 40) -> float:
    torch.cuda.synchronize()
    began = time.perf_counter()
    for _ in range(steps):
        step()
    torch.cuda.synchronize()
    return time.perf_counter() - began


def _checking() -> str:
    """Learn from GPT-2 on the device, check it there, and let a gradient become infinite."""
    from remora.check.services import CheckService, LearnService

    quiet = io.StringIO()
    with tempfile.TemporaryDirectory() as name:
        path = Path(name, "healthy.inv")
        _ride(LearnService(path, stderr=quiet), _gpt2(seed=1).step, steps=12)
        session = _gpt2(seed=0)
        alone_s = _run_for(session.step, steps=30) / 30
        checking = CheckService(path, stderr=quiet)
        checked_s = _ride(checking, session.step, steps=30)
        if checking.found_any:
            raise RuntimeError(f"a healthy run: {checking.findings.violations[0]}")
        faulty, broken = CheckService(path, stderr=quiet), _gpt2(seed=0)
        weight = next(broken.model.parameters())
        weight.register_hook(lambda gradient: gradient * float("inf"))
        _ride(faulty, broken.step, steps=3)
        if not any(one.step == 0 for one in faulty.findings.violations):
            raise RuntimeError("an infinite gradient was not found in its step")
        triggered = len(checking.report().triggered)
    return (
        f"{triggered} invariants triggered; step {checked_s / alone_s:.3f} × native; "
        "an infinite gradient was found in its step"
    )


def _gpt2(seed: int) -> Session:
    return workloads.get("gpt2-train").build("standard", torch.device("cuda"), seed=seed)


def _ride(service: Service, step: Callable[[], object], steps: int) -> float:
    """Seconds a step with ``service`` riding along, its first few left out."""
    job = Job()
    job.attach(service)
    try:
        for _ in range(5):
            step()
        torch.cuda.synchronize()
        began = time.perf_counter()
        for _ in range(steps):
            step()
        torch.cuda.synchronize()
        return (time.perf_counter() - began) / steps
    finally:
        job.finish()


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
            timeout=_left(),
        )
        if done.returncode != 0:
            raise RuntimeError(done.stderr[-3000:])
        raw = (Folder.open(out).path / "report" / "results.json").read_bytes()
    analysis = msgspec.json.decode(raw, type=Analysis)
    void = [c.sentence for c in analysis.comparisons if c.verdict == "void"]
    if void:
        raise RuntimeError("; ".join(void))
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
    rows: list[Row] = []
    for what, check in checks():
        if time.monotonic() - _BEGAN > BUDGET_S:
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
