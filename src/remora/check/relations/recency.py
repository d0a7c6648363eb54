"""Which functions were called since the last call of another: what lead and cover both learn from.

Each thread keeps its functions in the order of their last calls. Those after a function in that
list are those called since, so that a call costs as many steps as there are such functions, not
as many as there are functions.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

from remora.check.calls import Call


@dataclass
class Since:
    """What lies between a call and the one before it of the same function and thread."""

    previous: Call | None
    """None at the first call: then ``functions`` are all called before it."""
    functions: list[str]
    """The latest first."""


class Recency:
    """Follows the order of calls, thread by thread."""

    def __init__(self) -> None:
        self._last: dict[int, dict[str, Call]] = defaultdict(dict)

    def meet(self, call: Call) -> Since:
        """``call`` begins."""
        last = self._last[call.thread]
        previous = last.pop(call.function, None)
        functions = []
        for name, latest in reversed(last.items()):
            if previous is not None and latest.order < previous.order:
                break
            functions.append(name)
        last[call.function] = call
        return Since(previous, functions)

    def forget(self) -> None:
        self._last.clear()


@dataclass
class Nesting:
    """Who was called within whom, and directly from where."""

    within: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    """By function, those it was ever called in, at any depth."""
    directly: dict[str, set[str | None]] = field(default_factory=lambda: defaultdict(set))
    """By function, the watched functions that called it; None where there was none."""

    def meet(self, call: Call) -> None:
        around = call.parent
        self.directly[call.function].add(around.function if around is not None else None)
        known = self.within[call.function]
        while around is not None and around.function not in known:
            known.add(around.function)
            known |= self.within[around.function]
            around = around.parent

    def side_by_side(self, one: str, other: str) -> bool:
        """Neither was ever called within the other, and both from some one place."""
        return (
            other not in self.within[one]
            and one not in self.within[other]
            and bool(self.directly[one] & self.directly[other])
        )
