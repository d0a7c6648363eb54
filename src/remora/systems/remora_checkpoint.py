"""Ours: the checkpoint service, with its settings as options."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from remora.systems.contract import Moved, Ride, System
from remora.systems.disk import Disk
from remora.workloads.contract import Outcome, Session

if TYPE_CHECKING:
    from remora.checkpoint.checkpointer import Checkpointer
    from remora.checkpoint.storage.contract import Storage

_MIB = 2**20
_MEGABYTE = 10**6


class _Rest:
    """What a session's state holds beside model and optimizers: its place in the data, say."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def state_dict(self) -> dict[str, Any]:
        apart = {"model", *self._session.optimizers}
        return {key: value for key, value in self._session.state().items() if key not in apart}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._session.load_state({**self._session.state(), **state})


class _RemoraRide(Ride):
    """The checkpointer's own clocks: what it held the job up, and when each save was durable."""

    def __init__(self, session: Session, saver: Checkpointer, every: int) -> None:
        super().__init__(session)
        self.period = every
        self.saver = saver
        self.steps = 0
        saver.track(model=session.model, session=_Rest(session), **session.optimizers)

    def step(self) -> Outcome:
        outcome = self.session.step()
        self.saver.step(self.steps)
        self.steps += 1
        self._read()
        return outcome

    def _read(self) -> None:
        self.stalls_ns = list(self.saver.counters.stall_ns)
        self.durable_ns = list(self.saver.counters.durable_ns)

    def drain(self) -> None:
        self.saver.wait()
        self._read()

    def moved(self) -> Moved:
        return Moved(disk_bytes=self.saver.counters.bytes_written)

    def close(self) -> None:
        self.saver.close()


@dataclass(frozen=True)
class RemoraCheckpoint(System):
    """Durable, verified checkpoints beside the job, several in flight."""

    name: ClassVar[str] = "remora-checkpoint"
    title: ClassVar[str] = "the checkpoint service: durable, checksummed, several in flight"

    every: int = 5
    """Steps between checkpoints."""
    in_flight: int = 2
    """Checkpoints on their way to storage at once."""
    keep: int = 2
    """Committed checkpoints that stay."""
    threads: int = 1
    """Writer threads."""
    chunk_mib: int = 16
    """MiB copied, hashed and written at once."""
    memory_mib: int = 0
    """MiB of staging memory; 0 is that of ``in_flight`` states."""
    snapshot: str = "thread"
    """How the state is captured: copied by a ``thread``, or by a ``fork``."""
    when_slow: str = "block"
    """What to do when one is due and no room in flight: ``block`` (as all peers), ``skip`` it, or
    ``supersede`` an older one."""
    disk_mb_s: int = 0
    """Bandwidth of the disk in MB a second; 0 is this machine's own."""

    def ride(self, session: Session, directory: Path) -> Ride:
        return _RemoraRide(session, self._saver(directory), self.every)

    def _saver(self, directory: Path) -> Checkpointer:
        from remora.checkpoint.checkpointer import Checkpointer
        from remora.checkpoint.storage.local import LocalStorage
        from remora.checkpoint.storage.throttled import ThrottledStorage

        Disk(self.disk_mb_s)  # refuses what is no bandwidth
        storage: Storage = LocalStorage(directory)
        if self.disk_mb_s:
            storage = ThrottledStorage(storage, self.disk_mb_s * _MEGABYTE)
        chosen: dict[str, Any] = {"when_slow": self.when_slow, "snapshot": self.snapshot}
        return Checkpointer(
            directory,
            every=self.every,
            in_flight=self.in_flight,
            keep=self.keep,
            threads=self.threads,
            chunk_bytes=self.chunk_mib * _MIB,
            memory_bytes=self.memory_mib * _MIB or None,
            on_error="raise",
            storage=storage,
            **chosen,
        )
