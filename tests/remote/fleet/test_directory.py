"""The directory over its wire: who may join, who is told, and when a server is missed."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from tests.remote.fleet.conftest import QUICK, FleetHere, within

from remora.core.errors import Refused, ServerLost
from remora.remote.fleet.calling import Calling
from remora.remote.fleet.directory import Directory
from remora.remote.fleet.messages import Ask, End, Join, Report, View, Watch
from remora.remote.fleet.registration import Registration
from remora.remote.messages import Request
from remora.remote.wire.link import Link
from remora.remote.wire.listener import Listener

Make = Callable[..., FleetHere]


def test_only_servers_that_the_fleet_started_may_join(fleet_here: Make) -> None:
    there = fleet_here(1)
    with Calling().directory(there.directory.address) as channel:
        with pytest.raises(Refused, match="only servers that this fleet has started"):
            channel.call(Join("server-0", "tcp://127.0.0.1:9", "a guess"))
        with pytest.raises(Refused, match="has no 'server-7'"):
            channel.call(Join("server-7", "tcp://127.0.0.1:9", there.directory.secret))

    assert there.standing("server-0").state == "serving"


def test_a_server_that_is_refused_hears_of_it_and_tries_no_more(fleet_here: Make) -> None:
    there, why = fleet_here(1), list[str]()
    join = Join("server-0", "tcp://127.0.0.1:9", "a guess")
    registration = Registration(
        lambda: Calling().directory(there.directory.address), join, refused=why.append
    )
    assert within(5, lambda: bool(why))
    registration.close()

    assert "only servers" in why[0]


def test_every_server_is_reported(fleet_here: Make) -> None:
    there = fleet_here(2)
    with Calling().directory(there.directory.address) as channel:
        report = channel.call(Ask()).message

    assert isinstance(report, Report)
    assert [(s.name, s.state) for s in report.servers] == [
        ("server-0", "serving"), ("server-1", "serving"),
    ]  # fmt: skip
    assert report.servers[0].counts["sessions"] == 0


def test_who_watches_is_told_within_moments_that_a_server_died(fleet_here: Make) -> None:
    there = fleet_here(2, health=QUICK.__class__(every_s=30, silent_s=1))
    with Calling().directory(there.directory.address) as channel:
        views = channel.stream(Watch())
        assert len(next(views).message.members) == 2
        began = time.monotonic()
        there.end("server-1")
        view = next(views).message

    assert isinstance(view, View)
    assert [member.name for member in view.members] == ["server-0"]
    assert time.monotonic() - began < 5, "its connection ended: nobody waits for the next question"
    assert any("server-1 is left out" in line for line in there.told)


def test_a_server_that_hangs_is_left_out_and_comes_back() -> None:
    answering = [True]

    def serve(link: Link) -> None:
        from remora.remote.messages import Counts

        while True:
            arrived = link.receive()
            if answering[0]:
                link.send(arrived.request, Counts({"sessions": 0}))

    health = QUICK.__class__(every_s=0.05, silent_s=0.3)
    with (
        Listener("tcp://127.0.0.1:0", Request, serve) as hanging,
        Directory("tcp://127.0.0.1:0", ["one"], Calling().server, health=health) as directory,
    ):
        directory.join(Join("one", str(hanging.address), directory.secret))
        assert directory.members.wait_for(1, 5)
        answering[0] = False
        assert within(5, lambda: not directory.members.view.members)
        (standing,) = directory.members.standings
        assert standing.why == "no answer within 0.3 s"
        answering[0] = True
        assert directory.members.wait_for(1, 5)


def test_a_server_joins_again_when_the_directory_comes_back(fleet_here: Make) -> None:
    there = fleet_here(1)
    address, secret = there.directory.address, there.directory.secret
    there.directory.close()
    there.directory = Directory(address, ["server-0"], Calling().server, health=QUICK)
    there.directory.secret = secret

    assert there.directory.members.wait_for(1, 10)


def test_whoever_may_connect_may_end_it(fleet_here: Make) -> None:
    there = fleet_here(1, token="a token that is long enough")
    with pytest.raises(Refused, match="token"):
        Calling().directory(there.directory.address)
    assert not there.directory.ended.is_set()
    with Calling(there.token).directory(there.directory.address) as channel:
        channel.call(End())

    assert there.directory.ended.wait(5)


def test_a_directory_open_to_others_wants_a_token() -> None:
    with pytest.raises(Exception, match="there is no token"):
        Directory("tcp://0.0.0.0:0", [], Calling().server)


def test_what_no_directory_understands_ends_the_connection(fleet_here: Make) -> None:
    from remora.remote.messages import Offer

    there = fleet_here(1)
    with Calling().directory(there.directory.address) as channel, pytest.raises(ServerLost):
        channel.call(Offer(("digest",)), deadline_s=5)
    assert there.standing("server-0").state == "serving"
