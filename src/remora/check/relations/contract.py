"""What a relation is: a claim, a learner that finds claims, and a machine that checks them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import msgspec

from remora.check.calls import Call, Known
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

    def missing(self) -> str | None:
        """The function whose call is missed where the claim does not hold, if it is one."""
        return None

    def judged(self) -> str | None:
        """The function whose calls its condition is about; None where it is about no call."""
        return self.functions()[0]

    def subject(self) -> Hashable | None:
        """What it is about, if claims about the same can be :meth:`joined`."""
        return None

    def joined(self, other: Any) -> Claim | None:
        """Both in one, which holds wherever one of them does; ``other`` is about the same.

        None where that would say nothing.
        """
        raise NotImplementedError

    def handed_on(self, to: Mapping[str, str]) -> Claim | None:
        """The same, said of those that functions only hand ``to`` (:mod:`remora.check.handing_on`).

        None if it is then about nothing.
        """
        return self


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

    def measures(self, function: str) -> frozenset[str]:
        """The numbers it learns from at calls of ``function``."""
        return frozenset()

    def measured(self, call: Call, numbers: Mapping[str, float]) -> None:  # noqa: B027
        """What was measured at a call."""

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


MOST_VERDICTS = 1024
"""So many verdicts are kept of one rule, or of one function; then they are found again."""

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
    _verdicts: dict[tuple[int, int], tuple[bool, Any, Any]] = field(
        default_factory=dict, repr=False, compare=False
    )
    """By the ids of context and inputs; both are kept, so that no other takes its id."""

    def judge(self, holds: bool, call: Call, seen: Callable[[], str]) -> None:
        self.triggered += 1
        if not holds:
            self.report(seen(), call)

    def concerns(self, call: Call) -> bool:
        """Whether the condition is met; a verdict on properties that are known is kept."""
        if self.when is None:
            return True
        context, inputs = call.context, call.inputs
        if type(context) is not Known or type(inputs) is not Known:
            return self.when((call.properties(),))
        found = self._verdicts.get((id(context), id(inputs)))
        return found[0] if found is not None else self._keep(self.when, call)

    def _keep(self, when: Callable[[Any], bool], call: Call) -> bool:
        verdict = when((call.properties(),))
        if len(self._verdicts) >= MOST_VERDICTS:
            self._verdicts.clear()
        key = id(call.context), id(call.inputs)
        self._verdicts[key] = verdict, call.context, call.inputs
        return verdict


class Machine(ABC):
    """Checks every invariant of one relation at once, over the same events as a learner's."""

    claims: ClassVar[type[Claim]]
    remembers: ClassVar[bool] = False
    """Whether a verdict rests on calls of an earlier step too."""

    @abstractmethod
    def __init__(self, rules: Sequence[Rule]) -> None: ...

    def join(self, meeting: Meeting) -> None:  # noqa: B027
        """The run is one rank of a job of several, which meet there; called before all else."""

    def missed(self) -> None:  # noqa: B027
        """Steps went by unseen: what was before them says nothing of what comes now."""

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

    def measures(self) -> dict[str, frozenset[str]]:
        """By function, the numbers wanted at its calls."""
        return {}

    def measured(self, call: Call, numbers: Mapping[str, float]) -> None:  # noqa: B027
        """What was measured at a call of one of these functions."""

    def compared(self) -> frozenset[str]:
        """The variables, or the modules of those, whose contents are wanted at each step's end."""
        return frozenset()

    def compare(self, step: int, contents: Mapping[str, Hashable]) -> None:  # noqa: B027
        """What stands for their contents then."""

    def step_ended(self, step: int) -> None:  # noqa: B027
        """Step number ``step`` is over."""
