"""The contract of a policy: what it is told, and what it answers.

A policy decides which piece of work goes to a device next. It reads no clock, draws nothing and
starts nothing: an executor (a simulator, a server that owns a device, a gate between processes)
tells it what happened and when, and asks. The same calls at the same times get the same answers.

Times are whole nanoseconds of one monotonic clock and never go back. An executor calls, in this
order where several things happen at one moment: :meth:`~Policy.finished` and
:meth:`~Policy.left`, then :meth:`~Policy.submitted`, then :meth:`~Policy.next` and
:meth:`~Policy.started` for as long as there is a :class:`Run`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, ClassVar, Literal, TypeAlias

from msgspec import Meta, Struct

from remora.core.errors import BadValue

Nanoseconds: TypeAlias = Annotated[int, Meta(ge=0)]
"""Checked where a unit comes over a wire; elsewhere the executor vouches for it."""


class Priority(StrEnum):
    """The two classes of jobs."""

    HIGH = "high"
    BEST_EFFORT = "best-effort"


class Resource(StrEnum):
    """What of a device a unit uses most."""

    COMPUTE = "compute"
    MEMORY = "memory"
    UNKNOWN = "unknown"

    def complements(self, other: Resource) -> bool:
        """Whether the two can run side by side, each on what the other leaves idle."""
        unknown = Resource.UNKNOWN
        return self is not other and self is not unknown and other is not unknown


class Cut(Struct, frozen=True):
    """One way to slice a unit: into ``pieces``, of which the longest takes ``piece_ns``."""

    pieces: Annotated[int, Meta(ge=1)]
    piece_ns: Nanoseconds


class Unit(Struct, frozen=True, eq=False):
    """A piece of work of a job that nothing can stop once the device has it.

    Two units are never equal, whatever they hold: each is submitted once at a time. ``cuts`` are
    ordered from few pieces to many; a unit without any runs whole.
    """

    job: str
    priority: Priority
    expected_ns: Nanoseconds = 0
    """How long it takes when it runs alone and whole; 0 where nobody knows."""
    deadline_ns: int | None = None
    """When it should be finished, on the executor's clock."""
    resource: Resource = Resource.UNKNOWN
    cuts: tuple[Cut, ...] = ()


class Run(Struct, frozen=True, eq=False):
    """Give the device these pieces of ``unit``: ``begin`` to before ``end``, of ``pieces``."""

    unit: Unit
    begin: int = 0
    end: int = 1
    pieces: int = 1
    expected_ns: int = 0
    within_bound: bool = True
    """False where the policy has a bound and the unit has no cut that keeps it."""

    @property
    def is_last(self) -> bool:
        """Whether the unit is done when this is."""
        return self.end == self.pieces


class WaitUntil(Struct, frozen=True):
    """Nothing may start before ``at_ns``, unless something happens: ask again then."""

    at_ns: int


class Idle(Struct, frozen=True):
    """Nothing may start until something happens."""


IDLE = Idle()
Decision: TypeAlias = Run | WaitUntil | Idle
Order: TypeAlias = Literal["class", "job", "deadline"]


class Longest(Struct, frozen=True):
    """The longest work there is: what a promise of a policy is computed from."""

    best_effort_ns: int
    """One run of a best-effort unit: :meth:`Policy.longest_run_ns`."""
    high_ns: int = 0
    """One unit of a high-priority job."""
    ahead_ns: int = 0
    """High-priority work that came before, and the rest of the unit that runs."""


@dataclass(frozen=True)
class Options:
    """What a user may set of a policy: each field with its default and the reason for it.

    A field whose name ends in ``_ns`` is a time; what cannot be is refused with ``BadValue``.
    """


class Policy(ABC):
    """Decides what runs next on one device.

    Args:
        options: of the policy's own kind; its defaults if None.
        capacity: how many units the device may have in flight.

    Raises:
        BadValue: a capacity below 1.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    """What it does, in a few words, for tables."""
    order: ClassVar[Order] = "class"
    """Within what units keep the order in which they came: a class, a job, or equal deadlines."""
    paces: ClassVar[bool] = False
    """Whether it may keep best-effort work waiting beside a high-priority job that is idle."""
    options_type: ClassVar[type[Options]] = Options

    def __init__(self, options: Options | None = None, *, capacity: int = 1) -> None:
        if capacity < 1:
            raise BadValue(f"capacity={capacity} runs nothing; choose 1 or more units in flight")
        self.options = options if options is not None else self.options_type()
        self.capacity = capacity
        self._flying: list[Run] = []

    # ------------------------------------------------- what an executor says and asks

    def submitted(self, unit: Unit, now_ns: int) -> None:
        """``unit`` may run from now on."""
        self._add(unit, now_ns)

    def started(self, run: Run, now_ns: int) -> None:
        """The device has ``run``, which :meth:`next` answered at this moment.

        Raises:
            BadValue: its unit does not wait, or the device is full.
        """
        if len(self._flying) >= self.capacity:
            raise BadValue(
                f"job {run.unit.job}: {self.capacity} units are in flight, as many as may be; "
                "start what next() answers"
            )
        self._take(run, now_ns)
        self._flying.append(run)

    def finished(self, run: Run, now_ns: int) -> None:
        """``run``, the very one that was started, is done.

        Of a job that left, it is late news and changes nothing.
        """
        if run in self._flying:
            self._flying.remove(run)
            self._done(run, now_ns)

    def left(self, job: str, now_ns: int) -> None:
        """``job`` is gone: what it had waiting is dropped, and what it had in flight is free.

        Where a device goes on with what a dead process gave it, say so when that is over.
        """
        self._drop(job, now_ns)
        gone = [run for run in self._flying if run.unit.job == job]
        self._flying = [run for run in self._flying if run.unit.job != job]
        for run in gone:
            self._lost(run, now_ns)

    def next(self, now_ns: int) -> Decision:
        """What to do now. Asking changes nothing: without news the answer stays the same."""
        if len(self._flying) >= self.capacity:
            return IDLE
        return self._choose(now_ns)

    @property
    def in_flight(self) -> int:
        """How many runs the device has."""
        return len(self._flying)

    # ------------------------------------------------- what it promises

    @property
    def hold_back_ns(self) -> int:
        """How long the last high-priority work keeps best-effort work waiting behind it."""
        return 0

    def longest_run_ns(self, unit: Unit, absent_ns: int = 0) -> int:
        """How long a best-effort ``unit`` may have the device without a decision in between, when
        high-priority work has been absent for ``absent_ns``."""
        return unit.expected_ns

    def high_wait_ns(self, longest: Longest) -> int | None:
        """At most how long best-effort work keeps a high-priority unit waiting, at capacity 1.

        None where nothing bounds it.
        """
        return None

    # ------------------------------------------------- what each policy says

    @abstractmethod
    def _add(self, unit: Unit, now_ns: int) -> None: ...

    @abstractmethod
    def _take(self, run: Run, now_ns: int) -> None:
        """Its unit leaves the queue; :class:`BadValue` where it is in none."""

    @abstractmethod
    def _drop(self, job: str, now_ns: int) -> None:
        """Forget what waits of ``job``."""

    @abstractmethod
    def _choose(self, now_ns: int) -> Decision:
        """A slot is free: who gets it?"""

    def _done(self, run: Run, now_ns: int) -> None:  # noqa: B027 (not every policy wants to know)
        """``run`` has left the device."""

    def _lost(self, run: Run, now_ns: int) -> None:  # noqa: B027
        """``run`` was in flight when its job left."""


def whole(unit: Unit) -> Run:
    """All of ``unit`` at once."""
    return Run(unit, 0, 1, 1, unit.expected_ns)


def not_waiting(unit: Unit) -> BadValue:
    """What :meth:`Policy.started` says of a unit that is in no queue."""
    return BadValue(f"job {unit.job}: this unit does not wait; start what next() answers")
