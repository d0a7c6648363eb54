"""What the checkpointing systems share: when a checkpoint is due, and what it kept waiting."""

from __future__ import annotations

import time
from abc import abstractmethod
from pathlib import Path

import torch

from remora.core.errors import BadValue
from remora.systems.contract import Moved, Ride
from remora.workloads.contract import Outcome, Session


class CheckpointingRide(Ride):
    """Saves after every ``every`` steps and counts how long each save held up the job."""

    def __init__(self, session: Session, directory: Path, every: int) -> None:
        if every < 1:
            raise BadValue(f"every={every} is not an interval in steps; choose 1 or more")
        super().__init__(session)
        self.directory = directory
        self.period = every
        self.steps = 0
        self.disk_bytes = 0

    def step(self) -> Outcome:
        outcome = self.session.step()
        self.steps += 1
        if self.steps % self.period == 0:
            self._wait_for_the_step()
            began = time.perf_counter_ns()
            self.save()
            self.stalls_ns.append(time.perf_counter_ns() - began)
        return outcome

    def _wait_for_the_step(self) -> None:
        """Let the device finish what the step launched, so that it is not counted as a stall."""
        if self.session.device.type == "cuda":
            torch.cuda.synchronize(self.session.device)

    @abstractmethod
    def save(self) -> None:
        """Save the session's state, or begin to."""

    def moved(self) -> Moved:
        return Moved(disk_bytes=self.disk_bytes)


def bytes_under(path: Path) -> int:
    """Bytes of the files in ``path``, a file or a folder."""
    files = [path] if path.is_file() else [each for each in path.rglob("*") if each.is_file()]
    return sum(file.stat().st_size for file in files)
