"""Who is connected, of which class each is, and how many may be of the one that goes first."""

from __future__ import annotations

import threading
from dataclasses import dataclass

from remora.share.policies.contract import Priority


@dataclass(frozen=True)
class Client:
    """One connection. Nobody says a class: then it takes what others leave."""

    number: int = 0
    priority: Priority = Priority.BEST_EFFORT

    @property
    def job(self) -> str:
        """What a policy calls it."""
        return f"client {self.number}"


class Clients:
    """Those that are there. Thread-safe.

    Args:
        has_classes: whether the server tells classes apart.
        most_high: how many of high priority there may be at a time; 0 for any number.
    """

    def __init__(self, *, has_classes: bool, most_high: int = 0) -> None:
        self._has_classes, self._most_high = has_classes, most_high
        self._there: dict[object, Client] = {}
        self._count = 0
        self._guard = threading.Lock()

    def reason_against(self, priority: str) -> str | None:
        """Why no client that says ``priority`` (empty: nothing) is served, if so."""
        if not priority:
            return None
        if priority not in tuple(Priority):
            choices = ", ".join(sorted(Priority))
            return f"priority {priority[:40]!r} is unknown; choose from: {choices}"
        if not self._has_classes:
            return (
                "this server has all clients take turns, whatever their priority; start it with "
                "--policy priority, or connect without a priority"
            )
        return None

    def enter(self, key: object, priority: str) -> str | None:
        """Note the client that ``key`` stands for; or why it may not come in."""
        reason = self.reason_against(priority)
        if reason is not None:
            return reason
        wanted = Priority(priority) if priority else Priority.BEST_EFFORT
        with self._guard:
            if wanted is Priority.HIGH and 0 < self._most_high <= self._high():
                return (
                    f"{self._most_high} high-priority clients are here already, as many as this "
                    "server takes; connect with priority best-effort, or try again later"
                )
            self._count += 1
            self._there[key] = Client(self._count, wanted)
        return None

    def leave(self, key: object) -> None:
        """It is gone. May be called for one that never came in."""
        with self._guard:
            self._there.pop(key, None)

    def of(self, key: object) -> Client:
        """Whom ``key`` stands for; one without a class where nobody entered by it."""
        with self._guard:
            return self._there.get(key) or Client()

    def _high(self) -> int:
        return sum(each.priority is Priority.HIGH for each in self._there.values())
