"""A request as units, one after another: what a policy may tell to wait.

A :data:`Course` is a generator. It yields what its next unit is and does nothing until it is told
to run it; then it runs that, and yields the next. What it yields again, the same object, has pieces
that have not run. It ends when its request is answered, raises where that fails, and is closed
where nobody waits for it any more.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

from remora.remote.graph.asked import Asked
from remora.share.policies.contract import Cut, Run


@dataclass(frozen=True, eq=False)
class Ahead:
    """A unit that is to run."""

    expected_ns: int = 0
    """How long it takes when it runs whole; 0 where nobody knows."""
    cuts: tuple[Cut, ...] = ()
    """The ways to cut it."""


class Stepwise(Protocol):
    """A graph or a plan under way."""

    @property
    def at(self) -> int:
        """Steps that are done: the place of the next."""
        ...

    def go_on(self, end: int) -> None:
        """Do the steps to before ``end``."""
        ...

    def asked(self) -> Asked | None:
        """The call that the next step is; None where only that step knows how it is done."""
        ...

    def has_given(self, result: Any) -> None:
        """Somebody else has made that call, and this is what its operator returned."""
        ...

    def has_failed(self, error: Exception) -> None:
        """It raised ``error``. That is raised where nothing can follow."""
        ...


Course: TypeAlias = Generator[Ahead, Run, None]
