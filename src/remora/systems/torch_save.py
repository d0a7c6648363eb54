"""``torch.save`` into a new file, synced, renamed over the last one: the usual careful script."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch

from remora.core.files import sync_directory
from remora.systems.checkpointing import CheckpointingRide
from remora.systems.contract import Ride, System
from remora.workloads.contract import Session


class _TorchSaveRide(CheckpointingRide):
    def save(self) -> None:
        aside, final = self.directory / "checkpoint.tmp", self.directory / "checkpoint.pt"
        with aside.open("wb") as file:
            torch.save(self.session.state(), file)
            file.flush()
            os.fsync(file.fileno())
            self.disk_bytes += file.tell()
        aside.replace(final)
        sync_directory(self.directory)


@dataclass(frozen=True)
class TorchSave(System):
    """Synchronous checkpoints, durable when the step goes on."""

    name: ClassVar[str] = "torch-save"
    title: ClassVar[str] = "torch.save with fsync, synchronous"

    every: int = 5
    """Steps between checkpoints."""

    def ride(self, session: Session, directory: Path) -> Ride:
        return _TorchSaveRide(session, directory, self.every)
