"""The contract of a system: it wraps a session's step and can say what that took."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import ClassVar

from remora.workloads.contract import Outcome, Session

Option = int | float | str | bool
Another = Callable[[int], Session]
"""Builds a further session of the same workload and scale: number 1, 2 …, each of its own seed; 0
is one with the trials' own."""


@dataclass(frozen=True)
class Requirement:
    """A top-level module a system imports, and the command that brings it."""

    package: str
    remedy: str


@dataclass(frozen=True)
class Moved:
    """Bytes a ride has moved so far."""

    disk_bytes: int = 0
    wire_bytes: int | None = 0
    """Both ways together; None where nothing can tell."""
    sent_bytes: int | None = None
    """Of them, from the session's process; None where that is not known apart."""
    received_bytes: int | None = None


class Ride:
    """A system attached to one session: what the lab steps instead of the session itself."""

    period: int = 1
    """After how many steps the pattern of costs repeats (the checkpoint interval)."""
    in_process: bool = True
    """Whether the model is in this process; the memory of another's device cannot be seen here."""
    open_loop: bool = False
    """Whether steps are requests that come at moments of their own: see :meth:`wait`. In a closed
    loop, the usual case, each step follows the one before."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.stalls_ns: list[int] = []
        """How long each service call (one checkpoint) kept the job waiting, in order."""
        self.durable_ns: list[int] = []
        """How long after it was asked for each checkpoint was durable, where that is known."""
        self.came_ns: list[int] = []
        """When each request came, since :meth:`begin_requests`; the last may never become steps."""
        self.late_ns: list[int] = []
        """How long each request that became a step had waited by the time it did."""
        self.ended_ns: int = 0
        """When all was over, on the same clock."""

    def begin_requests(self, seconds: float, seed: int) -> None:
        """Requests are to come from now on, for so long. Of a ride in an open loop only.

        What goes before is not timed by the lab. ``seed`` is the same for every system of a block,
        and differs between blocks.
        """

    def wait(self) -> bool:
        """Return when the next request is there, not timed by the lab; False when the time is over.

        Asked before each step of a ride in an open loop, and of no other.
        """
        return False

    def step(self) -> Outcome:
        """One step of the session's work, with whatever the system does beside it."""
        return self.session.step()

    def drain(self) -> None:
        """Return when everything begun is finished (durable, delivered). Timed by the lab."""

    def moved(self) -> Moved:
        return Moved()

    def counts(self) -> Mapping[str, float]:
        """What it has counted so far, by name: checks made, records written. Shown as they are."""
        return {}

    def close(self) -> None:
        """Detach and leave no trace in the session or the process."""


@dataclass(frozen=True)
class System(ABC):
    """One way of running a workload. Subclasses are frozen dataclasses: fields are options."""

    name: ClassVar[str]
    title: ClassVar[str]
    """What it is, in a few words, for tables."""
    trains: ClassVar[bool] = True
    """Whether it can ride sessions that train; one that cannot rides those that do not."""

    def requires(self) -> tuple[Requirement, ...]:
        """What must be installed."""
        return ()

    def settings(self) -> Mapping[str, Option]:
        """The settings it runs at, printed with every result."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def unavailable(self) -> str | None:
        """Why it cannot run here although all it requires is installed; None when it can."""
        return None

    def preparation(self) -> str:
        """The name of what must be there before it can ride; empty for nothing.

        It is made once for each workload, by :meth:`prepare`, outside every trial, and shared by
        all systems that name it so. What it took is reported with start-up.
        """
        return ""

    def prepare(self, another: Another, kept: Path) -> None:  # noqa: B027  most need nothing
        """Make what :meth:`preparation` names, in the empty folder ``kept``."""

    def prepared(self, kept: Path) -> System:
        """This system with what was made in ``kept``."""
        return self

    def beside(self) -> tuple[str, str] | None:
        """A workload and its scale that run beside the session, in memory of their own."""
        return None

    @abstractmethod
    def ride(self, session: Session, directory: Path) -> Ride:
        """Attach to ``session``; ``directory`` is an empty folder for whatever it stores."""
