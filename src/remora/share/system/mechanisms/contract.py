"""The contract of a mechanism: how a best-effort job is made to give way on a CPU.

A mechanism acts on this process, every thread it has and starts, and every child it starts.
``tests/conformance/test_mechanism.py`` holds each to this.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from remora.core.errors import NotPermitted
from remora.share.system import processes


@dataclass(frozen=True)
class MechanismOptions:
    """What a user may set of a mechanism: each field with its default and the reason for it."""


@dataclass(frozen=True)
class Context:
    """What a mechanism is told of the job it acts on: this process."""

    key: str
    """The job's key in the roster."""
    roster: Path | None
    """The roster's folder; None where the job is in none."""
    lost: Callable[[], object] = lambda: None
    """Called, in a thread of the mechanism's, when it no longer acts: fall back to another."""
    proc: Path = processes.PROC


class Mechanism(ABC):
    """One way. An instance acts on this process at most once at a time."""

    name: ClassVar[str]
    title: ClassVar[str]
    """What it does, in a few words, for tables."""
    options_type: ClassVar[type[MechanismOptions]] = MechanismOptions
    falls_back_to: ClassVar[str]
    """Where it is not permitted."""

    def __init__(self, options: MechanismOptions | None = None) -> None:
        self.options = options if options is not None else self.options_type()

    @abstractmethod
    def apply(self, context: Context) -> None:
        """Act from now on. What was done in part is undone where it fails.

        Raises:
            NotPermitted: the system does not allow it; the message says what to grant.
        """

    @abstractmethod
    def undo(self) -> None:
        """Act no longer, as far as the system permits that. Calling it twice does no harm."""

    @abstractmethod
    def holds(self, pid: int) -> bool:
        """Whether it acts on process or thread ``pid`` now."""

    @property
    def cgroup(self) -> str | None:
        """The control group it made, to be removed behind the job."""
        return None


def not_permitted(what: str, error: OSError, grant: str) -> NotPermitted:
    """What a mechanism raises."""
    return NotPermitted(f"{what}: {(error.strerror or str(error)).lower()}; to have it, {grant}")
