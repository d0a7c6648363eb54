"""Where events go: to a learner, a checker, a file. Whoever observes a run feeds one of these."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import NamedTuple

from remora.check.calls import Call
from remora.check.observation import Look, Observation

Handler = Callable[[Call], None]
NONE: frozenset[str] = frozenset()


class Wanted(NamedTuple):
    """What has to be read of each call of a function; ``{"*"}`` for all there is."""

    inputs: frozenset[str] = NONE
    outputs: frozenset[str] = NONE


class Sink(ABC):
    """Takes the events of one run in the order in which they happen.

    Events of several threads may come at once.
    """

    @abstractmethod
    def wanted(self, function: str) -> Wanted:
        """What to read of calls of ``function``; asked once, before the first."""

    def handlers(self, function: str) -> tuple[tuple[Handler, ...], tuple[Handler, ...]]:
        """What to call with each call of ``function`` as it begins, and as it has ended."""
        return (self.begin,), (self.end,)

    @abstractmethod
    def begin(self, call: Call) -> None:
        """A call begins: its inputs and context are read."""

    @abstractmethod
    def end(self, call: Call) -> None:
        """It has returned, with its outputs read, or has failed."""

    def looks(self, function: str) -> tuple[Look, ...]:
        """What to look at around calls of ``function``; asked once, before the first."""
        return ()

    def changed(self, call: Call, observations: Sequence[Observation]) -> None:  # noqa: B027
        """What :meth:`looks` asked for, of a call that has ended.

        It follows the end of the call, or for variables on an accelerator the end of the step.
        """

    def measures(self, function: str) -> frozenset[str]:
        """The numbers wanted at calls of ``function`` (:mod:`remora.check.measures`); ``{"*"}``:
        all. Asked once, before the first."""
        return NONE

    def measured(self, call: Call, numbers: Mapping[str, float]) -> None:  # noqa: B027
        """What :meth:`measures` asked for, of a call that has ended, as far as it is there.

        It follows the end of the call, or for what is on an accelerator the end of the step.
        """

    def compared(self) -> frozenset[str]:
        """The variables whose contents are wanted at each step's end, by name; ``{"*"}``: all.

        The name of a module stands for all variables in it.
        """
        return NONE

    def compare(self, step: int, contents: Mapping[str, Hashable]) -> None:  # noqa: B027
        """What stands for the contents of those that exist, as step number ``step`` ends.

        Equal contents have equal values. Those of all variables are exact; those of some only
        may be of a sample: unequal ones differ, equal ones may. Such are tuples of a type, what
        stands for the sample and, at some steps, what stands for every element.
        """

    @abstractmethod
    def step_ended(self, step: int) -> None:
        """Step number ``step`` of the job is over."""

    @property
    def remembers(self) -> bool:
        """Whether it wants the calls of the step before one that is watched as well."""
        return False

    def missed(self) -> None:  # noqa: B027
        """Steps went by unseen: the next event is of a later one."""
