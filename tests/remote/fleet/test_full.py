"""A server that is full: its sessions go to the next, until all are, which is said of each."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
import torch
from tests.remote.conftest import decoded_here, prompt
from tests.remote.fleet.conftest import FleetHere, connected
from tests.remote.fleet.test_fleet import language

from remora.core.errors import Full, Refused
from remora.remote.client.graphs import CapturedHere
from remora.remote.client.placed import Placed
from remora.remote.client.server import RemoteServer
from remora.remote.fleet.ring import order
from remora.remote.server.house import Quotas
from remora.remote.server.sessions import Sessions

Make = Callable[..., FleetHere]
KEY = "it"


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def test_a_session_for_which_its_server_has_no_place_is_opened_at_the_next(
    fleet_here: Make, language_model: torch.nn.Module, decoder: Placed, stack: ExitStack
) -> None:
    there = fleet_here(3, quotas=Quotas(sessions=1))
    first, second, third = order(KEY, there.servers)
    fleet = stack.enter_context(connected(there))
    model = language(fleet, language_model, decoder)
    sessions = []
    for expected in ({first}, {first, second}, {first, second, third}):
        sessions.append(stack.enter_context(model.session(key=KEY)))
        assert {name for name, count in there.sessions().items() if count} == expected

    for session in sessions:
        session.prefill(prompt(5))
        assert list(session.generate(5)) == decoded_here(language_model, prompt(5), 5)
        assert session.recoveries == 0

    asked = _opened_at(there)
    with pytest.raises(Full, match="all 3 servers of this fleet are full") as raised:
        model.session(key=KEY)
    said = str(raised.value)
    assert [said.count(f"{name}: 1 sessions are open") for name in (first, second, third)] == [
        1
    ] * 3
    assert asked == [first, second, third], "each is asked once"


def _opened_at(there: FleetHere) -> list[str]:
    """The names of servers that are asked for a session from now on."""
    asked = []
    for name, (server, _) in there.servers.items():
        opened = server.house.sessions.open

        def noting(*args: object, name: str = name, opened: object = opened) -> object:
            asked.append(name)
            return opened(*args)  # type: ignore[operator]

        server.house.sessions.open = noting  # type: ignore[method-assign, assignment]
    return asked


def test_a_prompt_for_which_a_server_has_no_room_is_read_at_the_next(
    fleet_here: Make, language_model: torch.nn.Module, decoder: Placed, stack: ExitStack
) -> None:
    there = fleet_here(2, quotas=Quotas(chunk_tokens=8, sessions_bytes=30_000, idle_s=60))
    first, second = order(KEY, there.servers)
    fleet = stack.enter_context(connected(there))
    model = language(fleet, language_model, decoder)
    one, other = (stack.enter_context(model.session(key=KEY)) for _ in range(2))
    one.prefill(prompt(50))
    assert there.sessions() == {first: 2, second: 0}

    other.prefill(prompt(3))
    other.prefill(prompt(40, seed=1))
    assert there.sessions() == {first: 1, second: 1}, "the first lets go of it"
    whole = torch.cat([prompt(3), prompt(40, seed=1)], dim=1)
    assert list(other.generate(4)) == decoded_here(language_model, whole, 4)
    assert (one.recoveries, other.recoveries) == (0, 1)

    last = stack.enter_context(model.session(key=KEY))
    last.prefill(prompt(2))
    with pytest.raises(Full, match=f"{first}: no room for .*{second}: no room for"):
        last.prefill(prompt(50))
    assert list(last.generate(4)) == decoded_here(language_model, prompt(2), 4), "it is as it was"


def test_a_session_whose_server_ends_passes_a_full_one_by(
    fleet_here: Make, language_model: torch.nn.Module, decoder: Placed, stack: ExitStack
) -> None:
    there = fleet_here(3, quotas=Quotas(sessions=1))
    first, second, third = order(KEY, there.servers)
    fleet = stack.enter_context(connected(there))
    model = language(fleet, language_model, decoder)
    one, _ = (stack.enter_context(model.session(key=KEY)) for _ in range(2))
    one.prefill(prompt(5))
    there.end(first)
    assert list(one.generate(5)) == decoded_here(language_model, prompt(5), 5)
    assert there.sessions() == {second: 1, third: 1}


def test_weights_for_which_a_server_has_no_room_go_to_the_next(
    fleet_here: Make, language_model: torch.nn.Module, decoder: Placed, stack: ExitStack
) -> None:
    there = fleet_here(2)
    first, second = order(KEY, there.servers)
    there.servers[first][0].house.weights.limit_bytes = 1000
    fleet = stack.enter_context(connected(there))
    with language(fleet, language_model, decoder).session(key=KEY) as session:
        session.prefill(prompt(5))
        assert there.sessions() == {first: 0, second: 1}


def test_what_no_server_would_do_is_refused_by_the_first_alone(
    fleet_here: Make, decoder: Placed, stack: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = fleet_here(2)
    asked = list[object]()

    def refuse(sessions: Sessions, *args: object) -> None:
        asked.append(sessions)
        raise Refused("never")

    monkeypatch.setattr(Sessions, "open", refuse)
    fleet = stack.enter_context(connected(there))
    with pytest.raises(Refused, match=r"^never$"):
        language(fleet, torch.nn.Linear(2, 2), decoder).session(key=KEY)
    assert len(asked) == 1


def test_one_server_takes_a_key_and_ignores_it(
    remote: RemoteServer, language_model: torch.nn.Module, decoder: Placed
) -> None:
    model = remote.load(language_model)
    assert isinstance(model.graphs, CapturedHere)
    model.graphs.decoder = Placed(decoder.captured, decoder=True)
    with model.session(key="any") as session:
        session.prefill(prompt(5))
        assert list(session.generate(3)) == decoded_here(language_model, prompt(5), 3)
    assert remote.for_key("any") is remote
