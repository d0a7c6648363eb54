"""The job that the live mode kills where no script is given: small, real, and back at once.

Run as ``python -m remora.checkpoint.goodput.job FOLDER PROGRESS EVERY STEP_MS``. It trains a small
model without end, a step every ``STEP_MS`` milliseconds and more, saves every ``EVERY`` steps, and
resumes from ``FOLDER``.
"""

from __future__ import annotations

import itertools
import sys
import time
from pathlib import Path

import torch

from remora.checkpoint.checkpointer import Checkpointer
from remora.checkpoint.goodput.progress import ProgressLog

WIDTH = 512


def main(folder: Path, progress: Path, every: int, step_s: float) -> None:
    """Train until killed."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = torch.nn.Sequential(*(torch.nn.Linear(WIDTH, WIDTH) for _ in range(4)))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)
    log = ProgressLog(progress)
    with Checkpointer(folder, every=every) as saver:
        start = saver.restore(model=model, optimizer=optimizer) or 0
        for step in itertools.count(start):
            batch = torch.randn(4, WIDTH)
            optimizer.zero_grad()
            model(batch).square().mean().backward()
            optimizer.step()
            time.sleep(step_s)
            log.finished(step)
            saver.step(step)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]) / 1e3)
