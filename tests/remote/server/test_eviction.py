"""Sessions make room for others: idle ones go to the host, then for good, and nobody notices."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest
import torch
from tests.remote.conftest import decoded_here, prompt

from remora.core.errors import Refused
from remora.remote.client.placed import Placed
from remora.remote.client.server import RemoteServer, connect
from remora.remote.client.session import RemoteSession
from remora.remote.server.house import Quotas
from remora.remote.server.server import Server

TOKEN_BYTES = 2 * 2 * 32 * 4  # layers, keys and values, width, float32
READY_BYTES = 61 * 4
"""The logits of the next token."""


def one_session(tokens: int) -> int:
    return tokens * TOKEN_BYTES + READY_BYTES


@pytest.fixture
def opened() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def served(opened: ExitStack, **quotas: float) -> tuple[Server, RemoteServer]:
    given = Quotas(sessions_bytes=2 * one_session(40), chunk_tokens=8, **quotas)  # type: ignore[arg-type]
    server = opened.enter_context(Server("tcp://127.0.0.1:0", quotas=given))
    return server, opened.enter_context(connect(server.address))


def sessions(opened: ExitStack, remote: RemoteServer, decoder: Placed) -> list[RemoteSession]:
    """Three, of which two have room."""
    made = []
    for seed in range(3):
        session = RemoteSession(remote, Placed(decoder.captured, decoder=True), deadline_s=30)
        made.append(opened.enter_context(session))
        session.prefill(prompt(30, seed))
    return made


@pytest.mark.parametrize("host_bytes", [0, one_session(20), one_session(40)])
def test_three_sessions_where_two_fit_decode_as_if_alone(
    opened: ExitStack, decoder: Placed, language_model: torch.nn.Module, host_bytes: int
) -> None:
    server, remote = served(opened, idle_s=0, host_bytes=host_bytes)
    several = sessions(opened, remote, decoder)
    tokens: list[list[int]] = [[], [], []]
    for _ in range(3):
        for given, session in zip(tokens, several, strict=True):
            given += session.generate(3)
            assert server.house.sessions.held_bytes <= 2 * one_session(40)
            assert server.house.sessions.host_bytes <= host_bytes
    for seed, given in enumerate(tokens):
        assert given == decoded_here(language_model, prompt(30, seed), 9)
    if host_bytes == one_session(40):
        assert server.house.sessions.dropped == 0
        assert sum(session.recoveries for session in several) == 0
    else:
        assert sum(session.recoveries for session in several) > 0


def test_what_was_moved_to_the_host_goes_back_and_is_counted(
    opened: ExitStack, decoder: Placed
) -> None:
    _, remote = served(opened, host_bytes=2 * one_session(40))
    first = sessions(opened, remote, decoder)[0]
    counts = remote.counts()
    assert counts["sessions_host_bytes"] == one_session(30)
    assert counts["sessions_bytes"] == 2 * one_session(30)

    first.rewind(20)
    assert remote.counts()["sessions_host_bytes"] == 20 * TOKEN_BYTES - TOKEN_BYTES
    list(first.generate(2))
    assert remote.counts()["sessions_host_bytes"] == one_session(30)  # of the second, now


def test_one_that_was_used_just_now_is_not_dropped(opened: ExitStack, decoder: Placed) -> None:
    server, remote = served(opened, idle_s=60)
    with pytest.raises(Refused, match="those that are open are in use; close one"):
        sessions(opened, remote, decoder)
    assert server.house.sessions.dropped == 0
    assert len(server.house.sessions) == 3


def test_what_can_never_fit_drops_nobody(opened: ExitStack, decoder: Placed) -> None:
    server, remote = served(opened, idle_s=0)
    session = RemoteSession(remote, Placed(decoder.captured, decoder=True), deadline_s=30)
    opened.enter_context(session)
    session.prefill(prompt(10))
    other = RemoteSession(remote, Placed(decoder.captured, decoder=True), deadline_s=30)
    opened.enter_context(other)
    with pytest.raises(Refused, match="no room for 100 tokens more"):
        other.prefill(prompt(100))
    assert server.house.sessions.dropped == 0


def test_a_session_that_went_back_holds_little_memory(opened: ExitStack, decoder: Placed) -> None:
    server, remote = served(opened)
    session = RemoteSession(remote, Placed(decoder.captured, decoder=True), deadline_s=30)
    opened.enter_context(session)
    session.prefill(prompt(40))
    session.rewind(5)
    (held,) = server.house.sessions._sessions.values()
    assert all(tensor.untyped_storage().nbytes() <= 2 * tensor.nbytes for tensor in held.state)
