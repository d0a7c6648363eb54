"""A connection that was lost is made again, also while the server is still full of the lost one."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from remora.core.errors import Refused, ServerLost
from remora.remote.client import server
from remora.remote.client.server import RemoteServer

FULL = Refused("1 high-priority clients are here already")
GONE = ServerLost("nobody answers")


class Line:
    """A channel that can only be closed."""

    is_closed = False

    def close(self) -> None:
        self.is_closed = True


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "_FIRST_PAUSE_S", 0.001)


def lost(answers: Iterable[object], reconnect_s: float = 5.0) -> tuple[Any, Any, Any]:
    """A server whose further dials end as told, its first channel, and the one in its place."""
    first = Line()
    told = iter([first, *answers])

    def dial() -> Any:
        answer = next(told)
        if isinstance(answer, Exception):
            raise answer
        return answer

    remote = RemoteServer(dial, "tcp://there", reconnect_s)
    return remote, first, remote.renewed(first, GONE)  # type: ignore[arg-type]


def test_one_that_is_refused_for_a_while_tries_again() -> None:
    second = Line()
    remote, first, found = lost([FULL, GONE, FULL, second])
    assert found is second
    assert first.is_closed
    assert remote.channel is found


@pytest.mark.parametrize("error", [FULL, GONE])
def test_in_the_end_it_says_what_was_said_last(error: Exception) -> None:
    with pytest.raises(type(error), match=str(error)):
        lost([error] * 1000, reconnect_s=0.05)
