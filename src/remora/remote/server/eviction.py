"""Whose states leave the device when others need the room: to the host first, then for good.

What is dropped is not lost to its program: the client has noted the tokens and reads them again.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

import torch

from remora.core.errors import Full
from remora.core.units import format_bytes
from remora.remote.server.session import Session

HOST = torch.device("cpu")


@dataclass(frozen=True)
class Eviction:
    """Who goes, and where to. Not thread-safe: its caller lets no session begin to work meanwhile.

    Args:
        device_bytes: the most that all states on the device may take.
        host_bytes: the most that those may take that were moved to the host; 0 moves none.
        idle_ns: a session that was used within that time is not dropped for another's sake.
    """

    device: torch.device
    device_bytes: int
    host_bytes: int = 0
    idle_ns: int = 10**9

    def make_room(
        self, sessions: Collection[Session], needed: int, what: str, now_ns: int
    ) -> Sequence[Session]:
        """Have ``needed`` bytes free on the device for ``what``; gives those that were dropped.

        Raises:
            Full: that cannot be had without those that are at work or were just now. Nothing has
                changed then.
        """
        over = held_bytes(sessions) + needed - self.device_bytes
        if over <= 0:
            return []
        going = self._going(sessions, over, now_ns)
        if sum(session.state_bytes for session in going) < over:
            raise Full(
                f"no room for {what} ({format_bytes(needed)}): all sessions may take "
                f"{format_bytes(self.device_bytes)}, and those that are open are in use; "
                "close one, or start the server with a larger --sessions"
            )
        return self._evicted(sessions, going)

    def bring_back(self, session: Session) -> None:
        """Its state is on the device again. There is room."""
        session.move(self.device)
        session.on_host = False

    def _going(self, sessions: Iterable[Session], over: int, now_ns: int) -> list[Session]:
        """The longest unused that together free ``over`` bytes, or all that there are."""
        newest_ns = now_ns if self.host_bytes else now_ns - self.idle_ns
        going: list[Session] = []
        for session in _by_use(sessions):
            if over <= 0:
                break
            if session.state_bytes and not session.on_host and session.used_ns <= newest_ns:
                going.append(session)
                over -= session.state_bytes
        return going

    def _evicted(self, sessions: Iterable[Session], going: Iterable[Session]) -> Sequence[Session]:
        dropped: list[Session] = []
        on_host = [session for session in _by_use(sessions) if session.on_host]
        for session in going:
            if session.state_bytes > self.host_bytes:
                dropped.append(session)
                continue
            while held_bytes(on_host, on_host=True) + session.state_bytes > self.host_bytes:
                dropped.append(on_host.pop(0))
            session.move(HOST)
            session.on_host = True
            on_host.append(session)
        return dropped


def held_bytes(sessions: Iterable[Session], *, on_host: bool = False) -> int:
    """What the states of ``sessions`` take on the device, or on the host."""
    return sum(session.state_bytes for session in sessions if session.on_host == on_host)


def _by_use(sessions: Iterable[Session]) -> list[Session]:
    """Those that are not at work, the longest unused first."""
    return sorted((s for s in sessions if not s.working), key=lambda session: session.used_ns)
