"""``torch.save``, the usual script: with the syncs a careful one makes, and without them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch

from remora.core.files import sync_directory
from remora.systems.checkpointing import SynchronousRide
from remora.systems.contract import Ride, System
from remora.workloads.contract import Session


class _TorchSaveRide(SynchronousRide):
    """A new file, synced and renamed into place."""

    suffix = ".pt"

    def write(self, target: Path) -> None:
        aside = target.with_suffix(".tmp")
        with aside.open("wb") as file:
            torch.save(self.session.state(), file)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(target)
        sync_directory(self.directory)


class _UnsyncedRide(SynchronousRide):
    """One call, into the page cache."""

    suffix = ".pt"
    synced = False

    def write(self, target: Path) -> None:
        torch.save(self.session.state(), target)


@dataclass(frozen=True)
class TorchSave(System):
    """Synchronous checkpoints, durable when the step goes on."""

    name: ClassVar[str] = "torch-save"
    title: ClassVar[str] = "torch.save with fsync, synchronous"

    every: int = 5
    """Steps between checkpoints."""
    disk_mb_s: int = 0
    """Bandwidth of the disk in MB a second; 0 is this machine's own."""

    def ride(self, session: Session, directory: Path) -> Ride:
        return _TorchSaveRide(session, directory, self.every, self.disk_mb_s)


@dataclass(frozen=True)
class TorchSaveNoSync(System):
    """Synchronous checkpoints that power loss may take: the job waits for the page cache only."""

    name: ClassVar[str] = "torch-save-nosync"
    title: ClassVar[str] = "torch.save without fsync, synchronous"

    every: int = 5
    """Steps between checkpoints."""
    disk_mb_s: int = 0
    """Bandwidth of the disk in MB a second; 0 is this machine's own."""

    def ride(self, session: Session, directory: Path) -> Ride:
        return _UnsyncedRide(session, directory, self.every, self.disk_mb_s)
