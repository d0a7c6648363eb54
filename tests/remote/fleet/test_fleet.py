"""A fleet is used as one server is; what is lost with a server goes on at another."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from tests.remote.conftest import decoded_here, prompt
from tests.remote.fleet.conftest import FleetHere, connected, within
from tests.remote.wire.conftest import certificate as certificate

from remora.core.errors import BadValue, LinkLost, Refused, ServerLost
from remora.remote.client import aio
from remora.remote.client.graphs import CapturedHere
from remora.remote.client.model import RemoteModel
from remora.remote.client.placed import Placed
from remora.remote.client.server import connect
from remora.remote.client.session import RemoteSession
from remora.remote.fleet.connect import directory_of
from remora.remote.fleet.fleet import Fleet
from remora.remote.fleet.messages import Member
from remora.remote.fleet.ring import order
from remora.remote.server.server import Server
from remora.remote.wire.listener import Certificate

Make = Callable[..., FleetHere]
TOKEN = "the right one, long enough"


class Slow(torch.nn.Module):
    """Takes a moment to compute."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.eye(400))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for _ in range(30):
            x = x @ self.weight
        return x


def language(fleet: Fleet, model: torch.nn.Module, decoder: Placed) -> RemoteModel:
    """``model`` on the fleet, without capturing it once more."""
    loaded = fleet.load(model)
    assert isinstance(loaded.graphs, CapturedHere)
    loaded.graphs.decoder = Placed(decoder.captured, decoder=True)
    return loaded


def holder(there: FleetHere) -> str:
    """The one server that has a session."""
    (name,) = (name for name, count in there.sessions().items() if count)
    return name


def test_calls_give_what_the_model_gives_here(fleet_here: Make) -> None:
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU(), torch.nn.Linear(4, 2))
    with connected(fleet_here(2)) as fleet:
        placed = fleet.load(model)
        x = torch.randn(5, 3)

        torch.testing.assert_close(placed(x), model(x))
        with pytest.raises(BadValue, match=r"takes a torch\.nn\.Module"):
            fleet.load(lambda x: x)  # type: ignore[arg-type]


def test_calls_one_after_another_stay_on_one_server(fleet_here: Make) -> None:
    there = fleet_here(3)
    with connected(there) as fleet:
        placed = fleet.load(torch.nn.Linear(3, 4))
        for _ in range(10):
            placed(torch.zeros(1, 3))

        held = [server.house.counts()["models"] for server, _ in there.servers.values()]
        assert sorted(held) == [0, 0, 1], "weights go to the server that needs them"
        assert fleet.counts()["models"] == 1


def test_calls_at_one_time_spread_over_the_servers(fleet_here: Make) -> None:
    there = fleet_here(2)
    with connected(there) as fleet, ThreadPoolExecutor(4) as threads:
        placed = fleet.load(Slow())
        placed(torch.zeros(300, 400))
        list(threads.map(placed, [torch.zeros(300, 400)] * 40))

        assert all(server.house.counts()["models"] for server, _ in there.servers.values())


def test_calls_with_a_key_stay_on_its_server(fleet_here: Make) -> None:
    there = fleet_here(3)
    with connected(there) as fleet, ThreadPoolExecutor(4) as threads:
        placed = fleet.for_key("mine").load(Slow())
        list(threads.map(placed, [torch.zeros(10, 400)] * 20))

    owner = order("mine", there.servers)[0]
    held = {name for name, (server, _) in there.servers.items() if server.house.counts()["models"]}
    assert held == {owner}


def test_a_session_is_where_its_key_belongs_for_every_program(
    fleet_here: Make, language_model: torch.nn.Module, decoder: Placed
) -> None:
    there = fleet_here(3)
    for _ in range(2):
        with connected(there) as fleet:
            model = language(fleet, language_model, decoder)
            for key in ("one", "another", "a third"):
                with model.session(key=key):
                    assert holder(there) == order(key, there.servers)[0]


def test_programs_with_an_event_loop_use_it_as_well(
    fleet_here: Make, language_model: torch.nn.Module, decoder: Placed
) -> None:
    there = fleet_here(3)

    async def decoded() -> list[int]:
        async with await aio.connect(there.address) as server:
            assert isinstance(server.server, Fleet)
            model = aio.AsyncModel(language(server.server, language_model, decoder))
            async with model.session(key="it") as session:
                await session.prefill(prompt(5))
                assert holder(there) == order("it", there.servers)[0]
                return [token async for token in session.generate(10)]

    assert asyncio.run(decoded()) == decoded_here(language_model, prompt(5), 10)


def test_sessions_without_a_key_take_turns(
    fleet_here: Make, language_model: torch.nn.Module, decoder: Placed
) -> None:
    there = fleet_here(3)
    with connected(there) as fleet:
        model = language(fleet, language_model, decoder)
        sessions = [model.session() for _ in range(6)]

        assert set(there.sessions().values()) == {2}
        for session in sessions:
            session.close()
        assert set(there.sessions().values()) == {0}


def test_it_works_by_tls_and_where_other_machines_reach_it(
    fleet_here: Make, certificate: Certificate
) -> None:
    there = fleet_here(2, token=TOKEN, host="0.0.0.0", certificate=certificate)
    with connected(there) as fleet:
        assert fleet.echo([torch.ones(2)])[0].tolist() == [1, 1]
        assert {line.member.address[:15] for line in fleet._lines.all} == {"tcp://127.0.0.1"}
    with pytest.raises(ServerLost):
        connect(there.address, token=TOKEN)


def test_closing_what_has_a_key_takes_nothing_from_others(
    fleet_here: Make, language_model: torch.nn.Module, decoder: Placed
) -> None:
    there = fleet_here(1)
    with (
        connected(there) as fleet,
        language(fleet, language_model, decoder).session() as session,
    ):
        with fleet.for_key("mine") as mine:
            mine.echo([torch.ones(1)])
        session.prefill(prompt(5))
        assert len(list(session.generate(3))) == 3
        assert session.recoveries == 0


# ---------------------------------------------------------------- what is lost


def test_a_session_goes_on_at_another_server_when_its_own_ends(
    fleet_here: Make, language_model: torch.nn.Module, decoder: Placed
) -> None:
    there, taken = fleet_here(3), list[int]()
    owner, next_one, _ = order("it", there.servers)
    moved = []
    with connected(there) as fleet:
        model = language(fleet, language_model, decoder)
        with model.session(key="it") as session:
            session.prefill(prompt(5))
            for token in session.generate(60):
                taken.append(token)
                if len(taken) == 3:
                    moved.append(holder(there))
                    there.end(owner)
                if len(taken) == 40:
                    moved.append(holder(there))

    assert taken == decoded_here(language_model, prompt(5), 60)
    assert moved == [owner, next_one]


def test_sessions_stay_when_another_server_ends_or_comes_back(
    fleet_here: Make, language_model: torch.nn.Module, decoder: Placed
) -> None:
    there = fleet_here(3)
    owner, other, _ = order("it", there.servers)
    with (
        connected(there) as fleet,
        language(fleet, language_model, decoder).session(key="it") as session,
    ):
        session.prefill(prompt(5))
        there.end(other)
        assert within(5, lambda: there.standing(other).state == "silent")
        there.start(other)
        assert there.directory.members.wait_for(3, 5)
        first = list(session.generate(5))
        assert (holder(there), session.recoveries) == (owner, 0)

    assert first == decoded_here(language_model, prompt(5), 5)


def test_a_server_that_comes_back_is_used_again(
    fleet_here: Make, language_model: torch.nn.Module, decoder: Placed
) -> None:
    there = fleet_here(2)
    owner, other = order("it", there.servers)
    with connected(there) as fleet:
        model = language(fleet, language_model, decoder)
        with model.session(key="it") as session:
            session.prefill(prompt(5))
            there.end(owner)
            list(session.generate(2))
            there.start(owner)
            assert there.directory.members.wait_for(2, 5)
            list(session.generate(2))
            assert holder(there) == other, "a session that has moved stays"
        number = int(owner[-1])
        assert within(
            5, lambda: any(each.member.born > 2 for each in fleet._lines.all[number:][:1])
        )
        with model.session(key="it"):
            assert holder(there) == owner, "a new one goes where its key belongs"
        assert there.standing(owner).starts == 2


def test_a_call_is_made_again_elsewhere(fleet_here: Make) -> None:
    there = fleet_here(2)
    model = torch.nn.Linear(3, 4)
    with connected(there) as fleet:
        placed, x = fleet.load(model), torch.randn(2, 3)
        placed(x)
        (name,) = (n for n, (s, _) in there.servers.items() if s.house.counts()["models"])
        there.end(name)

        torch.testing.assert_close(placed(x), model(x))


def test_the_last_server_lost_is_an_error_in_bounded_time(
    fleet_here: Make, language_model: torch.nn.Module, decoder: Placed
) -> None:
    there = fleet_here(2)
    with (
        connected(there, reconnect_s=0.3) as fleet,
        language(fleet, language_model, decoder).session() as session,
    ):
        session.prefill(prompt(5))
        for name in list(there.servers):
            there.end(name)

        with pytest.raises(ServerLost):
            list(session.generate(5))


def test_programs_go_on_without_the_directory(
    fleet_here: Make, language_model: torch.nn.Module, decoder: Placed
) -> None:
    there = fleet_here(2)
    with (
        connected(there) as fleet,
        language(fleet, language_model, decoder).session(key="it") as session,
    ):
        session.prefill(prompt(5))
        first = list(session.generate(5))
        there.directory.close()
        second = list(session.generate(5))
        there.end(order("it", there.servers)[0])
        third = list(session.generate(5))

    assert first + second + third == decoded_here(language_model, prompt(5), 15)


def test_many_sessions_survive_servers_that_come_and_go(
    fleet_here: Make, language_model: torch.nn.Module, decoder: Placed
) -> None:
    there = fleet_here(3)
    decoded: dict[int, list[int]] = {}

    def decode(fleet: Fleet, model: RemoteModel, index: int) -> None:
        with model.session() as session:
            session.prefill(prompt(5, seed=index))
            decoded[index] = list(session.generate(100))

    with connected(there) as fleet:
        model = language(fleet, language_model, decoder)
        model.session().close()  # captured once
        threads = [threading.Thread(target=decode, args=(fleet, model, i)) for i in range(6)]
        for thread in threads:
            thread.start()
        for name in ("server-0", "server-1", "server-2"):
            there.end(name)
            there.start(name)
            assert there.directory.members.wait_for(3, 10)
        for thread in threads:
            thread.join()

    for index in range(6):
        assert decoded[index] == decoded_here(language_model, prompt(5, seed=index), 100)
    assert within(5, lambda: set(there.sessions().values()) == {0}), "nothing is left"


def test_a_model_that_servers_build_is_built_once_on_each_that_needs_it(
    fleet_here: Make, language_model: torch.nn.Module
) -> None:
    there = fleet_here(2)
    config: Any = language_model.config
    with connected(there) as fleet:
        model = fleet.build("GPT2LMHeadModel", config, language_model.state_dict())
        assert isinstance(model, RemoteModel)
        for key in "abcdef":
            with model.session(key=key) as session:
                session.prefill(prompt(4))
                assert list(session.generate(5)) == decoded_here(language_model, prompt(4), 5)

        held = [server.house.counts()["models"] for server, _ in there.servers.values()]
        assert held == [1, 1]


# ---------------------------------------------------------------- wrong addresses


def test_wrong_addresses_say_what_is_right(fleet_here: Make) -> None:
    there = fleet_here(1)
    (server, _) = there.servers["server-0"]
    with pytest.raises(BadValue, match=r"a server by itself.*connect to tcp://127"):
        connect(server.address.replace("tcp", "fleet"))
    with pytest.raises(BadValue, match=r"is a fleet's directory.*connect to fleet://127"):
        connect(there.directory.address)
    with pytest.raises(BadValue, match="is not a fleet's address"):
        connect("fleet://nowhere")
    with pytest.raises(ServerLost, match="cannot be reached"):
        connect("fleet://127.0.0.1:1")
    assert directory_of("fleet:///tmp/socket") == "unix:///tmp/socket"
    assert directory_of("host:1") == directory_of("fleet://host:1") == "tcp://host:1"


def test_a_wrong_token_is_refused_by_the_directory(fleet_here: Make) -> None:
    there = fleet_here(1, token=TOKEN)
    with pytest.raises(Refused, match="token is missing or wrong"):
        connect(there.address)
    with connected(there) as fleet:
        assert fleet.echo([torch.ones(2)])[0].tolist() == [1, 1]


def test_a_fleet_without_servers_is_lost_in_bounded_time(fleet_here: Make) -> None:
    there = fleet_here(0)
    with pytest.raises(ServerLost, match="no servers yet"):
        connect(there.address, reconnect_s=0.2)


def test_a_server_that_refuses_is_passed_over(fleet_here: Make) -> None:
    there = fleet_here(1)
    (taking,) = there.directory.members.view.members
    with (
        Server("tcp://127.0.0.1:0", token="another token altogether") as other,
        connected(there, reconnect_s=0) as fleet,
    ):
        refusing = Member("server-9", other.address, 9)
        fleet._lines.follow([taking, refusing])
        for turn in range(4):
            assert fleet.for_key(str(turn)).channel.link.peer == "remora"

        fleet._lines.follow([refusing])
        with pytest.raises(Refused, match="token is missing"):
            fleet.for_key("any")


def test_a_closed_fleet_says_so_at_once(fleet_here: Make, decoder: Placed) -> None:
    fleet = connected(fleet_here(1))
    session = RemoteSession(
        fleet.for_key("it"), Placed(decoder.captured, decoder=True), deadline_s=None
    )
    fleet.close()
    fleet.close()

    with pytest.raises(LinkLost, match="closed here"):
        session.prefill([1])
    with pytest.raises(LinkLost, match="closed here"):
        fleet.echo([])
