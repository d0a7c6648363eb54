"""What the best-effort job of a trial is told, as one line of JSON."""

from __future__ import annotations

import msgspec


class Order(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a best-effort job is told."""

    workload: str
    scale: str
    device: str
    seed: int
    threads: int
    cores: list[int]
    executor: str
    policy: str
    meeting: str
    """Where the jobs of the trial find each other: a folder, an address."""
    progress: str
    """The file of :class:`~remora.systems.beside.progress.Progress`."""
