"""What a training step pays to be checked, by what is checked of it.

In one process, steps with a checker and without it take turns, so that both meet the same machine.
"""

from __future__ import annotations

import io
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from benchmarks.page import table
from remora.check.invariants import Invariant, Invariants, read_invariants, write_invariants
from remora.check.services import CheckService, LearnService
from remora.tap.job import Job
from remora.workloads import registry
from remora.workloads.contract import Session

WORKLOADS = ("mlp-train", "gcn-train", "mnist-cnn-train")
LEARNING_STEPS = 60
ROUNDS = 9
BLOCK_S = 0.06
"""How long one goes on before the other takes its turn."""
UNMEASURED = 12
"""Steps after the checker has come, in which it finds variables and meets what is called."""
_VARIABLES = ("changes", "consistent", "periodic change")
_NUMBERS = ("range", "monotone")
SETS: dict[str, Callable[[Invariant], bool]] = {
    "none": lambda one: False,
    "calls": lambda one: one.relation not in (*_VARIABLES, *_NUMBERS),
    "variables": lambda one: one.relation in _VARIABLES,
    "numbers": lambda one: one.relation in _NUMBERS,
    "all learned": lambda one: True,
}


def section() -> str:
    """A table: a row for each workload and set of invariants, medians over rounds."""
    rows = []
    for name in WORKLOADS:
        with tempfile.TemporaryDirectory() as folder:
            learned = _learned(name, Path(folder))
            rows += list(_rows(name, learned, Path(folder)))
    columns = ["workload", "checked", "invariants", "step, ms", "added, µs", "× native", "10–90 %"]
    return f"{_NOTE}\n\n{table(columns, rows, left=2)}"


_NOTE = (
    f"Wall clock; medians over {ROUNDS} rounds, in each of which steps with the checker lie "
    "between steps without it. The last column is where eight in ten of the rounds lie."
)


def _learned(name: str, folder: Path) -> Invariants:
    session = _session(name, seed=1)
    job = Job(stderr=io.StringIO())
    job.attach(LearnService(folder / "all.inv", stderr=io.StringIO()))
    for _ in range(LEARNING_STEPS):
        session.step()
    job.finish()
    session.close()
    return read_invariants(folder / "all.inv")


def _rows(name: str, learned: Invariants, folder: Path) -> Iterator[list[str]]:
    session = _session(name, seed=0)
    for _ in range(5):
        session.step()
    steps = max(2, round(BLOCK_S / _seconds(session, 3)))
    paths = {}
    for called, wanted in SETS.items():
        paths[called] = folder / f"{called}.inv"
        kept = tuple(one for one in learned.invariants if wanted(one))
        write_invariants(paths[called], Invariants(header=learned.header, invariants=kept))
    found: dict[str, list[tuple[float, float]]] = {called: [] for called in SETS}
    for _ in range(ROUNDS):
        for called in random.sample(list(SETS), len(SETS)):
            found[called].append(_compared(session, paths[called], steps))
    session.close()
    for called, pairs in found.items():
        count = len(read_invariants(paths[called]).invariants)
        yield [name, called, str(count), *_cells(pairs)]


def _cells(pairs: list[tuple[float, float]]) -> list[str]:
    ratios = sorted(checked / native for native, checked in pairs)
    tenth = len(ratios) // 10
    return [
        f"{statistics.median(native for native, _ in pairs) * 1e3:.2f}",
        f"{statistics.median(checked - native for native, checked in pairs) * 1e6:+,.0f}",
        f"{statistics.median(ratios):.3f}",
        f"{ratios[tenth]:.2f} – {ratios[-1 - tenth]:.2f}",
    ]


def _compared(session: Session, path: Path, steps: int) -> tuple[float, float]:
    """Seconds a step without the checker, before it came and after it went; and with it."""
    before = _seconds(session, steps)
    job = Job(stderr=io.StringIO())
    job.attach(CheckService(path, stderr=io.StringIO()))
    _seconds(session, UNMEASURED)
    checked = _seconds(session, steps)
    job.finish()
    _seconds(session, 2)
    return (before + _seconds(session, steps)) / 2, checked


def _seconds(session: Session, steps: int) -> float:
    """Of one step, the median of so many."""
    found = []
    for _ in range(steps):
        began = time.perf_counter()
        session.step()
        found.append(time.perf_counter() - began)
    return statistics.median(found)


def _session(name: str, seed: int) -> Session:
    torch.set_num_threads(1)
    return registry.get(name).build("quick", torch.device("cpu"), seed=seed)
