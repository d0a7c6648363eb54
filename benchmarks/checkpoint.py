"""What the checkpoint service costs, beside what the machine can do at best.

Writing and reading back a state is timed beside a bare loop of the same direct reads and writes to
a file of the same size, in alternate turns, so that a disk that changes its mind does so for both.
The stall is timed on a step that sleeps, as a step on an accelerator does for the processor.

Run it with ``python -m benchmarks checkpoint``.
"""

from __future__ import annotations

import contextlib
import os
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil
import torch

from benchmarks.page import table
from remora.checkpoint.arguments import CHUNK_BYTES
from remora.checkpoint.checkpointer import Checkpointer
from remora.checkpoint.engine import Snapshot
from remora.checkpoint.state.known import KnownDict
from remora.checkpoint.state.parts import Parts
from remora.checkpoint.state.tree import flatten
from remora.checkpoint.storage.aligned import aligned
from remora.checkpoint.storage.local import LocalStorage
from remora.core.units import format_bytes
from remora.workloads import registry

CHUNK = CHUNK_BYTES
ROUNDS = 7
STEPS = 96
STEP_S = 0.255
FELT: tuple[tuple[int, Snapshot], ...] = ((1, "thread"), (5, "thread"), (1, "fork"), (5, "fork"))


@dataclass(frozen=True)
class Rates:
    """Gigabytes a second, medians over rounds."""

    bare: float
    ours: float
    share: float
    """Median over rounds of ours by bare."""
    low: float
    high: float
    """The least and the largest of those."""


@dataclass(frozen=True)
class Stalls:
    """What a step feels at one interval."""

    every: int
    snapshot: Snapshot
    throughput: float
    """× no checkpointing, the clock stopped when the last checkpoint is durable."""
    median_ms: float
    largest_ms: float
    capture_ms: float
    extra_bytes: int
    """The most memory beyond what training had, of the process and what it forked."""


class Job:
    """A state of 480 MB whose step does not use the processor."""

    def __init__(self) -> None:
        session = registry.get("device-like-train").build("quick", torch.device("cpu"))
        self.step = session.step
        self.parts = {"model": session.model, "optimizer": session.optimizer}
        self.step()  # the optimizer's state is there from the first step on

    @property
    def nbytes(self) -> int:
        state = flatten(Parts(**self.parts).capture())
        return sum(each.nbytes for each in state.tensors.values())


def write_rates(folder: Path, job: Job, rounds: int = ROUNDS) -> Rates:
    """A checkpoint until it is durable, beside direct writes of as many bytes and a sync."""
    with Checkpointer(folder / "saved", every=1) as saver:
        saver.track(**job.parts)
        bare = BareFile(folder / "bare", job.nbytes)
        _saved(saver, 1)  # every slot and every block has been written once
        bare.write()
        pairs = [(bare.write(), _saved(saver, 2 + index)) for index in range(rounds)]
    return _rates(job.nbytes, pairs)


def read_rates(folder: Path, job: Job, rounds: int = ROUNDS) -> Rates:
    """A restore, verified, into the live tensors, beside direct reads of as many bytes."""
    with Checkpointer(folder / "saved", every=1) as saver:
        saver.track(**job.parts)
        _saved(saver, 1)
        bare = BareFile(folder / "bare", job.nbytes)
        bare.write()
        pairs = [(bare.read(), _timed(saver.restore)) for _ in range(rounds + 1)][1:]
    return _rates(job.nbytes, pairs)


def _saved(saver: Checkpointer, step: int) -> float:
    def save() -> None:
        saver.save(step)
        saver.wait()

    return _timed(save)


def _timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def _rates(nbytes: int, pairs: list[tuple[float, float]]) -> Rates:
    shares = sorted(bare / ours for bare, ours in pairs)
    return Rates(
        bare=nbytes / statistics.median(bare for bare, _ in pairs) / 1e9,
        ours=nbytes / statistics.median(ours for _, ours in pairs) / 1e9,
        share=statistics.median(shares),
        low=shares[0],
        high=shares[-1],
    )


class BareFile:
    """A file of ``nbytes`` that is read and written past the page cache, and nothing else."""

    def __init__(self, path: Path, nbytes: int) -> None:
        storage = LocalStorage(path.parent)
        self._file = storage.open(path.name, create=True, direct=True)
        self._buffer = aligned(CHUNK)
        self._chunks = nbytes // CHUNK
        self._file.allocate(self._chunks * CHUNK)

    def write(self, chunks: Sequence[memoryview] = ()) -> float:
        """``chunks`` if given; the same one again and again if not."""

        def work() -> None:
            for index, chunk in enumerate(chunks or [self._buffer] * self._chunks):
                self._file.pwrite(chunk, index * CHUNK)
            self._file.fdatasync()

        return _timed(work)

    def read(self) -> float:
        """Two threads, as a restore has."""

        def work(first: int) -> None:
            buffer = aligned(CHUNK)
            for index in range(first, self._chunks, 2):
                self._file.pread(buffer, index * CHUNK)

        def both() -> None:
            threads = [threading.Thread(target=work, args=(first,)) for first in range(2)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()

        return _timed(both)


def stalls(
    folder: Path, job: Job, every: int, snapshot: Snapshot = "thread", steps: int = STEPS
) -> Stalls:
    """Steps with a checkpoint every ``every`` of them, beside as many steps with none."""
    process = psutil.Process()
    alone = _timed(lambda: _run(job, steps, None))
    before = process.memory_info().rss
    watch = _Peak(process)
    with Checkpointer(folder / "saved", every=every, snapshot=snapshot) as saver:
        saver.track(**job.parts)
        _saved(saver, 1)
        ridden = _timed(lambda: _run(job, steps, saver))
        waited = [each / 1e6 for each in saver.counters.stall_ns[1:]]
        parts, known = Parts(**job.parts), dict[str, KnownDict]()
        captures = [_timed(lambda: flatten(parts.capture(), known)) * 1e3 for _ in range(9)]
        return Stalls(
            every=every,
            snapshot=snapshot,
            throughput=alone / ridden,
            median_ms=statistics.median(waited),
            largest_ms=max(waited),
            capture_ms=statistics.median(captures),
            extra_bytes=watch.stop() - before,
        )


def _run(job: Job, steps: int, saver: Checkpointer | None) -> None:
    for step in range(steps):
        job.step()
        if saver is not None:
            saver.step(step)
    if saver is not None:
        saver.wait()


class _Peak:
    """The largest resident size, looked at a hundred times a second."""

    def __init__(self, process: psutil.Process) -> None:
        self._process, self._peak = process, 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look)
        self._thread.start()

    def _look(self) -> None:
        while not self._over.wait(0.01):
            self._peak = max(self._peak, self._process.memory_info().rss + self._of_children())

    def _of_children(self) -> int:
        """What is theirs alone: pages that both have are counted with the parent."""
        total = 0
        for child in self._process.children():
            with contextlib.suppress(psutil.Error):
                total += child.memory_full_info().uss
        return total

    def stop(self) -> int:
        self._over.set()
        self._thread.join()
        return self._peak


def section() -> str:
    """Both tables as Markdown, with how they were measured."""
    torch.set_num_threads(1)
    job = Job()
    place = os.environ.get("REMORA_BENCHMARK_FOLDER")  # which disk, where it matters
    with tempfile.TemporaryDirectory(dir=place, prefix="remora-") as name:
        folder = Path(name)
        rates = [
            ("write, until durable", write_rates(folder / "w", job)),
            ("restore, verified", read_rates(folder / "r", job)),
        ]
        felt = [stalls(folder / f"s{n}", job, *each) for n, each in enumerate(FELT)]
    return f"{_introduction(job.nbytes)}\n\n{_rates_table(rates)}\n\n{_stalls_table(felt)}"


def _introduction(nbytes: int) -> str:
    return (
        f"A state of {format_bytes(nbytes)} in the workload `device-like-train`, whose step sleeps "
        f"{STEP_S * 1e3:.0f} ms. *Bare* is a loop of direct reads or writes of as many bytes, in "
        f"alternate turns with ours, {ROUNDS} of each; *share* the median of ours by bare."
    )


def _rates_table(rates: list[tuple[str, Rates]]) -> str:
    rows = [
        [what, f"{r.bare:.2f}", f"{r.ours:.2f}", f"{r.share:.0%}", f"{r.low:.0%} … {r.high:.0%}"]
        for what, r in rates
    ]
    return table(("what", "bare, GB/s", "ours, GB/s", "share (target ≥ 80 %)", "range"), rows)


def _stalls_table(felt: list[Stalls]) -> str:
    rows = [
        [
            str(each.every), each.snapshot, f"{each.throughput:.3f}", f"{each.median_ms:.2f}",
            f"{each.largest_ms:.1f}", f"{each.capture_ms:.2f}", format_bytes(each.extra_bytes),
        ]
        for each in felt
    ]  # fmt: skip
    columns = (
        "every", "snapshot", "throughput × none", "stall, median ms (target ≤ 5)", "largest ms",
        "of that capture, ms", "peak extra memory",
    )  # fmt: skip
    return table(columns, rows, left=0)


def main() -> None:
    print(section())


if __name__ == "__main__":
    main()
