"""Watch one step in so many: which steps are watched, and which of them only for their calls.

What comes after what reaches over the end of a step: that the gradients of step 10 were cleared
after the backward of step 9 is only known to who saw both. Where an invariant asks for that, the
calls of the step before a watched one are followed as well, though no variables are read around
them; at the end of any step that is followed contents are compared.
In between, wrapped functions are called straight, and relations are told that they missed steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from remora.check.calls import Call
from remora.check.observation import Look
from remora.check.observe.around import Around
from remora.check.observe.moment import Moment
from remora.check.observe.variables import Variables
from remora.core.errors import BadValue


@dataclass(frozen=True)
class Watching:
    """What is watched of one step."""

    calls: bool
    variables: bool


EVERYTHING = Watching(calls=True, variables=True)
CALLS = Watching(calls=True, variables=False)
NOTHING = Watching(calls=False, variables=False)


class Sampling:
    """Watches steps 0, N, 2 N, …

    Args:
        every: N.
        remembers: follow the calls of the step before each of these.

    Raises:
        BadValue: N is below 1.
    """

    def __init__(self, every: int = 1, *, remembers: bool = False) -> None:
        self.every = checked(every)
        self._remembers = remembers

    def of(self, step: int) -> Watching:
        """What is watched of ``step``."""
        if step % self.every == 0:
            return EVERYTHING
        return CALLS if self._remembers and (step + 1) % self.every == 0 else NOTHING


class HasWatching(Protocol):
    watching: Watching


class AroundSampled(Around):
    """Looks at variables in those steps in which variables are watched."""

    def __init__(self, variables: Variables, looks: Sequence[Look], live: HasWatching) -> None:
        super().__init__(variables, looks)
        self._live = live

    def begin(self, call: Call, subject: Any, moment: Moment) -> None:
        if self._live.watching.variables:
            super().begin(call, subject, moment)


def checked(every: int) -> int:
    """``every``, if it is a number of steps.

    Raises:
        BadValue: it is below 1.
    """
    if isinstance(every, bool) or not isinstance(every, int) or every < 1:
        raise BadValue(f"every {every!r}: choose a number of steps from 1, such as 10")
    return every
