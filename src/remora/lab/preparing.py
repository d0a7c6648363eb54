"""What a system needs once for all trials of a workload, made before the first and kept.

It lies in the results folder under ``prepared/<workload>/<name>``, so it can be looked at, and a
run that is resumed finds it there. Making it is timed, and belongs to no trial.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import msgspec

from remora.core.clock import Clock
from remora.core.files import write_atomically
from remora.systems.contract import Another, System

_TOOK = "took.json"


class _Took(msgspec.Struct, forbid_unknown_fields=True):
    wall_ns: int


def is_made(kept: Path) -> bool:
    """Whether ``kept`` holds all that was to be made."""
    return (kept / _TOOK).exists()


def make(system: System, another: Another, kept: Path, clock: Clock) -> None:
    """Make what ``system`` names, in ``kept``: whole, or not there."""
    aside = kept.with_name(f".{kept.name}")
    for path in (aside, kept):
        shutil.rmtree(path, ignore_errors=True)
    aside.mkdir(parents=True)
    began_ns = clock.wall_ns()
    system.prepare(another, aside)
    took = _Took(clock.wall_ns() - began_ns)
    write_atomically(aside / _TOOK, msgspec.json.encode(took))
    aside.rename(kept)


def ready(system: System, workload: Path) -> tuple[System, int]:
    """``system`` with what was made for it in the folder ``workload``, and the ns that took."""
    name = system.preparation()
    if not name:
        return system, 0
    took = msgspec.json.decode((workload / name / _TOOK).read_bytes(), type=_Took)
    return system.prepared(workload / name), took.wall_ns
