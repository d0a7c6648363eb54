"""What a relation is: a claim, a learner that finds claims, and a machine that checks them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import msgspec

from remora.check.calls import Call
from remora.check.conditions import ALWAYS, Condition
from remora.check.observation import Look, Observation
from remora.check.ranks.meeting import Meeting

ALL = frozenset({"*"})
"""Every property there is."""


class Claim(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is said to hold, without when. One subclass a relation, told apart by its tag."""

    def words(self) -> str:
        """In words, such as ``zero_grad contains …``."""
        raise NotImplementedError

    def functions(self) -> tuple[str, ...]:
        """The functions whose calls have to be seen to judge it."""
        raise NotImplementedError

    def inputs(self) -> dict[str, frozenset[str]]:
        """By function, the properties of its inputs that have to be read."""
        return {}

    def outputs(self) -> dict[str, frozenset[str]]:
        """By function, the properties of its result that have to be read."""
        return {}

    def judged(self) -> str | None:
        """The function whose calls its condition is about; None where it is about no call."""
        return self.functions()[0]


class Learner(ABC):
    """Finds the claims of one relation in one pass over a run, or over several one by one."""

    def asks(self, function: str) -> frozenset[str]:
        """What it has to know of results of ``function`` that is not read of every result."""
        return frozenset()

    def join(self, meeting: Meeting | None) -> None:  # noqa: B027
        """What follows is of one rank of a job of several, until the run is over."""

    def begin(self, call: Call) -> None:  # noqa: B027  not every relation looks at every event
        """A watched call begins."""

    def end(self, call: Call) -> None:  # noqa: B027
        """It has returned or raised."""

    def looks(self, function: str) -> tuple[Look, ...]:
        """What of variables it learns from at calls of ``function``."""
        return ()

    def changed(self, call: Call, observations: Sequence[Observation]) -> None:  # noqa: B027
        """What a call has done to variables."""

    def compare(self, step: int, contents: Mapping[str, Hashable]) -> None:  # noqa: B027
        """What stands for the content of each variable as a step ends."""

    def step_ended(self, step: int) -> None:  # noqa: B027
        """Step number ``step`` is over."""

    def run_ended(self) -> None:  # noqa: B027
        """One run is over: what follows belongs to another one."""

    @abstractmethod
    def learned(self, fewest: int) -> Iterator[Learned]:
        """What held at least ``fewest`` times."""


@dataclass(frozen=True)
class Learned:
    claim: Claim
    when: Condition = ALWAYS
    support: int = 0
    against: int = 0


Report = Callable[[str, Call | None], None]
"""``report(seen, call)``: the invariant did not hold; ``call`` is where that showed."""


@dataclass
class Rule:
    """One invariant while it is checked. ``triggered`` counts the times it was judged."""

    claim: Any
    when: Callable[[Any], bool] | None
    report: Report
    triggered: int = 0
    condition: Condition = ALWAYS

    def judge(self, holds: bool, call: Call, seen: Callable[[], str]) -> None:
        self.triggered += 1
        if not holds:
            self.report(seen(), call)

    def concerns(self, call: Call) -> bool:
        return self.when is None or self.when((call.properties(),))


class Machine(ABC):
    """Checks every invariant of one relation at once, over the same events as a learner's."""

    claims: ClassVar[type[Claim]]

    @abstractmethod
    def __init__(self, rules: Sequence[Rule]) -> None: ...

    def join(self, meeting: Meeting) -> None:  # noqa: B027
        """The run is one rank of a job of several, which meet there; called before all else."""

    @abstractmethod
    def on_begin(self) -> dict[str, Callable[[Call], None]]:
        """By function, what to do when a call of it begins."""

    def on_end(self) -> dict[str, Callable[[Call], None]]:
        """By function, what to do when a call of it has ended."""
        return {}

    def looks(self) -> dict[str, tuple[Look, ...]]:
        """By function, what to look at around its calls."""
        return {}

    def changed(self, call: Call, observations: Sequence[Observation]) -> None:  # noqa: B027
        """What a call of one of these functions has done."""

    def compared(self) -> frozenset[str]:
        """The variables whose contents are wanted at each step's end."""
        return frozenset()

    def compare(self, step: int, contents: Mapping[str, Hashable]) -> None:  # noqa: B027
        """What stands for their contents then."""

    def step_ended(self, step: int) -> None:  # noqa: B027
        """Step number ``step`` is over."""
