"""The best-effort job of a trial: ``python -m remora.systems.beside.worker``, its order on stdin.

It trains a workload without end, writes down when each step ended, and dies with its parent: its
standard input stays open for as long as the parent lives.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from pathlib import Path

import msgspec

from remora.systems.beside.order import Order


def main() -> None:
    """Do as the order says; what went wrong, in a line, is left beside the progress."""
    order = msgspec.json.decode(sys.stdin.buffer.readline(), type=Order)
    threading.Thread(target=_die_with_parent, daemon=True).start()
    try:
        train(order)
    except Exception as error:
        reason_path(order).write_text(f"{type(error).__name__}: {error}".splitlines()[0])
        raise


def reason_path(order: Order) -> Path:
    """Where a job that fails says why."""
    return Path(f"{order.progress}.reason")


def train(order: Order) -> None:
    """Build, warm up, wait for the word, and train without end."""
    os.sched_setaffinity(0, order.cores)  # before torch starts threads: they inherit it
    import torch

    from remora.systems.beside import sharing
    from remora.systems.beside.progress import GOING, READY, Progress
    from remora.workloads import registry
    from remora.workloads.contract import SCALES

    torch.set_num_threads(order.threads)
    progress = Progress(Path(order.progress), is_new=False)
    training = sharing.executor(order.executor).train(order)
    scale = next(each for each in SCALES if each == order.scale)
    session = registry.get(order.workload).build(scale, training.device, seed=order.seed)
    training.warm_up(session.step)
    progress.state = READY
    while progress.state != GOING:
        time.sleep(0.001)
    while True:
        progress.add(time.perf_counter_ns(), training.worked_ns())
        session.step()
        training.done()


def _die_with_parent() -> None:
    """Past all exit handlers: an operator that runs is not waited for."""
    os.read(0, 1)
    os._exit(0)


if __name__ == "__main__":
    main()
