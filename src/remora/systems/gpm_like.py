"""Checkpoints as GPM makes them: the job stops while its tensors go straight to the storage.

After Pandey, Kamath and Basu, "GPM: Leveraging Persistent Memory from a GPU", ASPLOS 2022, as
PCcheck (ASPLOS 2025) runs it on a disk: no copy in host memory, no overlap.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch

from remora.core.tensors import tensor_bytes
from remora.systems.checkpointing import FilesRide
from remora.systems.contract import Ride, System
from remora.systems.retention import KEPT
from remora.systems.tensors import named_tensors
from remora.workloads.contract import Session

_LENGTH_BYTES = 8
_ZEROS = bytes(2**20)


def index_of(tensors: Mapping[str, torch.Tensor]) -> bytes:
    """What a file begins with: the length of a JSON table of the tensors that follow, and it."""
    table = [[name, str(t.dtype), list(t.shape), t.nbytes] for name, t in tensors.items()]
    text = json.dumps(table).encode()
    return len(text).to_bytes(_LENGTH_BYTES, "little") + text


class _GpmRide(FilesRide):
    """Two files, allocated and written in full once, take the checkpoints in turn."""

    def __init__(self, session: Session, directory: Path, every: int, disk_mb_s: int) -> None:
        super().__init__(session, directory, every, disk_mb_s)
        size = self._size(named_tensors(session.state()))
        for slot in range(KEPT):
            self._allocate(slot, size)

    def save(self) -> None:
        asked_ns, began = time.perf_counter_ns(), self.disk.now()
        tensors = named_tensors(self.session.state())
        slot = len(self.stalls_ns) % KEPT
        self._allocate(slot, self._size(tensors))
        written = self._write(self._path(slot), tensors)
        self.disk.wait_until(self.disk.accept(written, began))
        self.durable_ns.append(time.perf_counter_ns() - asked_ns)
        self.disk_bytes += written

    def _write(self, path: Path, tensors: Mapping[str, torch.Tensor]) -> int:
        descriptor, offset = os.open(path, os.O_WRONLY), 0
        try:
            offset += _write_all(descriptor, memoryview(index_of(tensors)), offset)
            for tensor in tensors.values():
                offset += _write_all(descriptor, tensor_bytes(tensor), offset)
            os.fdatasync(descriptor)
        finally:
            os.close(descriptor)
        return offset

    def _allocate(self, slot: int, size: int) -> None:
        """Grow a slot to ``size`` bytes on disk: first writes to new blocks are slower."""
        with self._path(slot).open("ab") as file:
            while (missing := size - file.tell()) > 0:
                file.write(_ZEROS[:missing])
            file.flush()
            os.fsync(file.fileno())

    def _path(self, slot: int) -> Path:
        return self.directory / f"slot-{slot}"

    @staticmethod
    def _size(tensors: Mapping[str, torch.Tensor]) -> int:
        return len(index_of(tensors)) + sum(tensor.nbytes for tensor in tensors.values())


def _write_all(descriptor: int, data: memoryview, offset: int) -> int:
    """Bytes written: all of ``data``."""
    done = 0
    while done < len(data):
        done += os.pwrite(descriptor, data[done:], offset + done)
    return done


@dataclass(frozen=True)
class GpmLike(System):
    """Synchronous checkpoints into preallocated files, without a copy."""

    name: ClassVar[str] = "gpm-like"
    title: ClassVar[str] = "as GPM: stall and write into preallocated files, fdatasync"

    every: int = 5
    """Steps between checkpoints."""
    disk_mb_s: int = 0
    """Bandwidth of the disk in MB a second; 0 is this machine's own."""

    def ride(self, session: Session, directory: Path) -> Ride:
        return _GpmRide(session, directory, self.every, self.disk_mb_s)
