"""``safetensors.torch.save_file`` into a new file, synced and renamed: the careful script again."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from safetensors.torch import save_file

from remora.core.files import sync_directory
from remora.systems.checkpointing import SynchronousRide, sync_file
from remora.systems.contract import Ride, System
from remora.systems.tensors import named_tensors
from remora.workloads.contract import Session


class _SafetensorsRide(SynchronousRide):
    """The tensors only: what else a state holds is small, and a script keeps it elsewhere."""

    suffix = ".safetensors"

    def write(self, target: Path) -> None:
        aside = target.with_suffix(".tmp")
        tensors = named_tensors(self.session.state())
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, aside)
        sync_file(aside)
        aside.replace(target)
        sync_directory(self.directory)


@dataclass(frozen=True)
class SafetensorsSave(System):
    """Synchronous checkpoints in one safetensors file each, durable when the step goes on."""

    name: ClassVar[str] = "safetensors-save"
    title: ClassVar[str] = "safetensors save_file with fsync, synchronous"

    every: int = 5
    """Steps between checkpoints."""
    disk_mb_s: int = 0
    """Bandwidth of the disk in MB a second; 0 is this machine's own."""

    def ride(self, session: Session, directory: Path) -> Ride:
        return _SafetensorsRide(session, directory, self.every, self.disk_mb_s)
