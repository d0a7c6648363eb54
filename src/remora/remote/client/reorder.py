"""Several sessions that take each other's places in the text at once, as beams do."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from remora.core.errors import BadValue, ServerLost, SessionLost
from remora.remote.client.session import RemoteSession


def reorder(sessions: Sequence[RemoteSession], sources: Sequence[int]) -> None:
    """Have each session go on from where the one at its source stands.

    One message, and nothing is read again, where all are on one server; else those whose source is
    elsewhere read its tokens.

    Args:
        sources: for each session the index of one of them, which may be its own.

    Raises:
        BadValue: a source that is none, or sessions of several models.
        SessionLost: one of them was closed.
        ServerLost, DeadlineExceeded: no answer came.
    """
    if len(sources) != len(sessions) or any(not 0 <= s < len(sessions) for s in sources):
        raise BadValue(f"{len(sessions)} sessions want as many sources, each the index of one")
    if list(sources) == list(range(len(sessions))):
        return
    for session in sessions:
        session.settle()
    noted = [session.tokens for session in sessions]
    are_there = False
    with suppress(ServerLost, SessionLost):
        are_there = sessions[0].lead(sessions, sources)
    for index, (session, source) in enumerate(zip(sessions, sources, strict=True)):
        if are_there:
            session.followed(noted[source])
        elif index != source:
            session.begin_anew(noted[source])
