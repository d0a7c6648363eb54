"""A server that drains takes no new sessions; those that it has end, or move when time is up."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from tests.remote.conftest import decoded_here, prompt
from tests.remote.fleet.conftest import FleetHere, connected, within
from tests.remote.fleet.test_fleet import language

from remora.core.errors import Refused, ServerLost
from remora.remote.client.placed import Placed
from remora.remote.fleet.members import Members
from remora.remote.fleet.messages import Drain, Join, View
from remora.remote.fleet.ring import order

Make = Callable[..., FleetHere]


def test_one_that_drains_is_left_out_when_its_sessions_have_ended() -> None:
    told = list[str]()
    members = Members(["one"], told.append, now_s=lambda: 0.0)
    born = members.join(Join("one", "tcp://127.0.0.1:1", ""))
    members.answers("one", born, {"sessions": 2})
    members.drain("one", 10.0)
    members.answers("one", born, {"sessions": 1})
    (member,) = members.view.members
    assert member.drains, "its clients still need to know where it is"
    assert members.standings[0].state == "draining"

    members.answers("one", born, {"sessions": 0})
    members.answers("one", born, {"sessions": 0})
    assert members.view == View(())
    assert members.standings[0].state == "drained"
    assert told[1:] == [
        "one takes no new sessions, and is left out in 10 s at the latest",
        "one is left out: it has drained",
    ]


def test_one_that_drains_is_left_out_when_time_is_up() -> None:
    now = [0.0]
    members = Members(["one"], now_s=lambda: now[0])
    born = members.join(Join("one", "tcp://127.0.0.1:1", ""))
    members.answers("one", born, {"sessions": 1})
    members.drain("one", 10.0)
    now[0] = 9.9
    members.answers("one", born, {"sessions": 1})
    assert members.view.members
    now[0] = 10.1
    members.answers("one", born, {"sessions": 1})
    assert members.view == View(())


def test_one_that_was_started_again_serves() -> None:
    members = Members(["one"], now_s=lambda: 0.0)
    born = members.join(Join("one", "tcp://127.0.0.1:1", "", pid=1))
    members.answers("one", born, {"sessions": 0})
    members.drain("one", 10.0)
    members.answers("one", born, {"sessions": 0})
    born = members.join(Join("one", "tcp://127.0.0.1:2", "", pid=2))
    members.answers("one", born, {"sessions": 0})
    (member,) = members.view.members
    assert not member.drains
    assert members.standings[0].state == "serving"


def test_only_one_that_serves_can_be_drained() -> None:
    members = Members(["one", "two"])
    with pytest.raises(Refused, match="no 'three'; it has one, two"):
        members.drain("three", 1.0)
    with pytest.raises(Refused, match="one does not serve"):
        members.drain("one", 1.0)


def test_sessions_stay_and_new_ones_go_elsewhere(
    fleet_here: Make, language_model: torch.nn.Module, decoder: Placed
) -> None:
    there = fleet_here(2)
    first, second = order("it", there.servers)
    with (
        connected(there) as fleet,
        there.calling.directory(there.directory.address) as directory,
    ):
        model = language(fleet, language_model, decoder)
        with model.session(key="it") as stays:
            stays.prefill(prompt(5))
            directory.call(Drain(first, 60.0))
            assert within(5, lambda: any(line.member.drains for line in fleet._lines.all))
            with model.session(key="it"):
                assert there.sessions() == {first: 1, second: 1}
            placed = fleet.load(torch.nn.Linear(2, 2))
            for _ in range(3):
                placed(torch.ones(1, 2))
            assert there.servers[first][0].house.counts()["models"] == 1, "calls go elsewhere too"
            assert list(stays.generate(5)) == decoded_here(language_model, prompt(5), 5)
            assert stays.recoveries == 0
        assert within(5, lambda: there.standing(first).state == "drained")
        with model.session(key="it") as moved:
            moved.prefill(prompt(5))
        assert there.sessions() == {first: 0, second: 0}


def test_a_session_that_is_still_there_when_time_is_up_goes_on_elsewhere(
    fleet_here: Make, language_model: torch.nn.Module, decoder: Placed
) -> None:
    there = fleet_here(2)
    first, _ = order("it", there.servers)
    with (
        connected(there) as fleet,
        language(fleet, language_model, decoder).session(key="it") as session,
    ):
        session.prefill(prompt(5))
        there.directory.members.drain(first, 0.0)
        assert within(5, lambda: there.standing(first).state == "drained")
        assert list(session.generate(5)) == decoded_here(language_model, prompt(5), 5)


def test_a_fleet_of_which_all_drain_takes_no_more(
    fleet_here: Make, language_model: torch.nn.Module, decoder: Placed
) -> None:
    there = fleet_here(1)
    with connected(there, reconnect_s=0.3) as fleet:
        model = language(fleet, language_model, decoder)
        with model.session() as session:
            session.prefill(prompt(5))
            there.directory.members.drain("server-0", 60.0)
            assert within(5, lambda: any(line.member.drains for line in fleet._lines.all))
            with pytest.raises(ServerLost, match="every server of this fleet drains"):
                model.session()
