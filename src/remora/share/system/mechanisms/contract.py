"""The contract of a mechanism: how a best-effort job is made to give way.

A mechanism acts on this process, every thread it has and starts, and, unless it says otherwise, on
every child it starts.
``tests/conformance/test_mechanism.py`` holds each to this.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from remora.core.errors import NotPermitted
from remora.core.saying import say
from remora.share.system import processes
from remora.tap.imports import ImportWatch


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
    lost: Callable[[str], object] = lambda why: None
    """Called, in whatever thread, when it no longer acts, and why: fall back to another."""
    proc: Path = processes.PROC
    when_imported: Callable[[str, Callable[[], object]], object] = field(
        default_factory=lambda: ImportWatch().when_imported
    )
    """Calls back once the program has imported a module: at once if it has already."""
    say: Callable[[str], object] = say
    """Tells the user a line."""


class Mechanism(ABC):
    """One way. An instance acts on this process at most once at a time."""

    name: ClassVar[str]
    title: ClassVar[str]
    """What it does, in a few words, for tables."""
    options_type: ClassVar[type[MechanismOptions]] = MechanismOptions
    falls_back_to: ClassVar[str]
    """Where it is not permitted."""
    acts_on_children: ClassVar[bool] = True
    """Whether it acts on the processes that the job starts."""

    def __init__(self, options: MechanismOptions | None = None) -> None:
        self.options = options if options is not None else self.options_type()

    @classmethod
    def words(cls, text: str) -> type[Any]:
        """A dataclass with a field for each option that a user may write in ``text``."""
        return cls.options_type

    @classmethod
    def made_of(cls, given: Mapping[str, Any]) -> MechanismOptions:
        """The options that a user has given, by field."""
        return cls.options_type(**given)

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

    @property
    def leaves_something(self) -> bool:
        """Whether something stays behind the process unless it is undone."""
        return self.cgroup is not None


def not_permitted(what: str, error: OSError, grant: str) -> NotPermitted:
    """What a mechanism raises."""
    return NotPermitted(f"{what}: {(error.strerror or str(error)).lower()}; to have it, {grant}")
