"""What saving takes from a step that uses the processor itself, and which part of saving does.

Steps of ``gpt2-40m-train`` on one thread, each beside one thing: nothing; a copy of as many bytes
as its state has; hashing them; writing them directly; a copy and then a write; a checkpoint, which
copies, hashes and writes at once, in two threads. In random order within each round, so that a
machine that changes its mind does so for all.

Run it with ``python -m benchmarks cpu-steps``.
"""

from __future__ import annotations

import os
import random
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import psutil
import torch
import xxhash

from benchmarks.checkpoint import BareFile
from benchmarks.page import table
from remora.checkpoint.arguments import CHUNK_BYTES
from remora.checkpoint.checkpointer import Checkpointer
from remora.checkpoint.staging import Arena, Buffer
from remora.core.units import format_bytes
from remora.lab.statistics.ratios import log_ratios, mean_interval, mean_ratio
from remora.workloads import registry

ROUNDS = 30
STEPS = 2
"""In a row beside the same thing, the first of which warms the caches anew; the second counts."""
PREFIX = "remora-checkpoint-"
"""Of the names of a checkpointer's threads."""
Join = Callable[[], object]
"""Returns when what was begun is done."""
Begin = Callable[[], Join]


class Pieces:
    """What saving is made of, each piece alone, on ``nbytes`` bytes of memory that nobody uses."""

    def __init__(self, folder: Path, nbytes: int) -> None:
        chunks = nbytes // CHUNK_BYTES
        self._live, self._staged = _buffers(chunks), _buffers(chunks)
        self._file = BareFile(folder / "bare", nbytes)
        self.write()  # blocks that were never written take twice as long

    def copy(self) -> None:
        for source, target in zip(self._live, self._staged, strict=True):
            target.memory.copy_(source.memory)

    def hash(self) -> None:
        for source in self._live:
            xxhash.xxh3_64_intdigest(source.view)

    def write(self) -> None:
        self._file.write([each.view for each in self._staged])

    def copy_then_write(self) -> None:
        self.copy()
        self.write()


def _buffers(count: int) -> list[Buffer]:
    arena = Arena(count, CHUNK_BYTES)
    return [each for _ in range(count) if (each := arena.take()) is not None]


class Riding:
    """Checkpoints of the job itself, as it would make them."""

    def __init__(self, folder: Path, parts: Mapping[str, Any]) -> None:
        self._saver = Checkpointer(folder / "saved", every=1)
        self._saver.track(**parts)
        self._saves = 0
        self.begin()()
        self.nbytes = self._saver.counters.bytes_written

    def begin(self) -> Join:
        self._saves += 1
        self._saver.save(self._saves)
        return self._saver.wait

    def close(self) -> None:
        self._saver.close()


def in_thread(work: Callable[[], None]) -> Begin:
    """Begin ``work`` in a thread of its own."""

    def begin() -> Join:
        thread = threading.Thread(target=work)
        thread.start()
        return thread.join

    return begin


def beside(step: Callable[[], Any], works: Mapping[str, Begin]) -> dict[str, list[float]]:
    """Seconds of a step from when each of ``works`` is begun, a list a work."""
    took: dict[str, list[float]] = {name: [] for name in works}
    order = list(works)
    draw = random.Random(0)
    for _ in range(ROUNDS):
        draw.shuffle(order)
        for name in order:
            for _ in range(STEPS):
                began = time.perf_counter()
                join = works[name]()
                step()
                seconds = time.perf_counter() - began
                join()
            took[name].append(seconds)
    return took


def section() -> str:
    """Both tables as Markdown, with how they were measured."""
    torch.set_num_threads(1)
    session = registry.get("gpt2-40m-train").build("quick", torch.device("cpu"))
    session.step()  # the optimizer's state is there from the first step on
    place = os.environ.get("REMORA_BENCHMARK_FOLDER")  # which disk, where it matters
    with tempfile.TemporaryDirectory(dir=place, prefix="remora-") as name:
        folder = Path(name)
        riding = Riding(folder, {"model": session.model, "optimizer": session.optimizer})
        pieces = Pieces(folder, riding.nbytes)
        works = {
            "nothing": in_thread(lambda: None),
            "a copy": in_thread(pieces.copy),
            "hashing": in_thread(pieces.hash),
            "a direct write": in_thread(pieces.write),
            "a copy, then a write": in_thread(pieces.copy_then_write),
            "a checkpoint": riding.begin,
        }
        before = _thread_times()
        took = beside(session.step, works)
        spent = _spent_ms(before, _thread_times())
        riding.close()
    return f"{_introduction(riding.nbytes)}\n\n{_beside_table(took)}\n\n{_spent_sentence(spent)}"


def _introduction(nbytes: int) -> str:
    return (
        f"Steps of `gpt2-40m-train`, one thread, each beside one thing done to "
        f"{format_bytes(nbytes)}, as many bytes as its state has; {ROUNDS} of each, in random "
        "order within a round. A checkpoint copies, hashes and writes at once, in two threads."
    )


def _beside_table(took: Mapping[str, list[float]]) -> str:
    alone = took["nothing"]
    rows = [["nothing", f"{statistics.median(alone) * 1e3:.0f}", "", ""]]
    for name, seconds in took.items():
        speeds = log_ratios(alone, seconds)
        share, interval = mean_ratio(speeds), mean_interval(speeds)
        if name != "nothing" and interval is not None:
            within = f"{interval.low:.3f} … {interval.high:.3f}"
            rows.append([name, f"{statistics.median(seconds) * 1e3:.0f}", f"{share:.3f}", within])
    columns = ("beside", "step, median ms", "speed × that beside nothing", "95 % interval")
    return table(columns, rows)


def _thread_times() -> dict[int, tuple[float, float]]:
    """User and system seconds of every thread of this process."""
    every = psutil.Process().threads()
    return {each.id: (each.user_time, each.system_time) for each in every}


def _spent_ms(
    before: Mapping[int, tuple[float, float]], after: Mapping[int, tuple[float, float]]
) -> dict[str, tuple[float, float]]:
    """User and system milliseconds a checkpoint of each of its threads, by name."""
    ours = {
        thread.native_id: thread.name.removeprefix(PREFIX)
        for thread in threading.enumerate()
        if thread.native_id is not None and thread.name.startswith(PREFIX)
    }
    saves = ROUNDS * STEPS
    return {
        name: (
            (after[number][0] - before[number][0]) / saves * 1e3,
            (after[number][1] - before[number][1]) / saves * 1e3,
        )
        for number, name in ours.items()
    }


def _spent_sentence(spent: Mapping[str, tuple[float, float]]) -> str:
    each = ", ".join(
        f"`{name}` {user:.0f} ms and {system:.0f} ms in the kernel"
        for name, (user, system) in spent.items()
    )
    return f"Processor time of a checkpoint's threads: {each}."
