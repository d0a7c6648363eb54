"""What a client says of itself when it comes in, and what a server makes of it."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import msgspec
import pytest
import torch
from tests.remote.processes.conftest import within

from remora.core.errors import BadValue, Refused, ServerLost, UnknownName
from remora.remote.client.server import connect
from remora.remote.fleet.running import Plan, RunningFleet
from remora.remote.fleet.spec import Spec
from remora.remote.messages import Reply
from remora.remote.server.clients import Clients
from remora.remote.server.server import Server
from remora.remote.wire.connect import connect as connect_link
from remora.remote.wire.handshake import Hello
from remora.remote.wire.limits import Limits
from remora.share.policies.registry import parse_choice

PRIORITY = parse_choice("priority")


def call(server: Server, **options: Any) -> list[tuple[str, int]]:
    """A client comes and has something computed; the classes of all that have done so."""
    with connect(server.address, **options) as remote:
        model = remote.load(torch.nn.Linear(2, 2))
        model(torch.ones(1, 2))
        return [(each.priority, each.requests) for each in remote.clients()]


def test_a_client_is_of_the_class_that_it_says() -> None:
    with Server("tcp://127.0.0.1:0", policy=PRIORITY) as server:
        assert call(server, priority="high") == [("high", 1)]
        assert call(server, priority="best-effort")[-1] == ("best-effort", 1)
        assert call(server)[-1] == ("best-effort", 1)  # who asks for nothing takes what is left


def test_a_server_without_a_policy_takes_nobody_who_says_a_class() -> None:
    with Server("tcp://127.0.0.1:0") as server:
        for priority in ("high", "best-effort"):
            with pytest.raises(Refused, match=r"take turns.*start it with --policy"):
                connect(server.address, priority=priority)
        assert call(server) == []


def test_a_class_that_is_none_is_refused_at_both_ends() -> None:
    with Server("tcp://127.0.0.1:0", policy=PRIORITY) as server:
        with pytest.raises(UnknownName, match="choose from: best-effort, high"):
            connect(server.address, priority="hihg")
        with pytest.raises(Refused, match="'top' is unknown; choose from: best-effort, high"):
            connect_link(server.address, Reply, priority="top")


def test_no_more_high_priority_clients_come_in_than_may() -> None:
    with Server("tcp://127.0.0.1:0", policy=PRIORITY, most_high=1) as server:
        with connect(server.address, priority="high"):
            with pytest.raises(Refused, match="1 high-priority clients are here already"):
                connect(server.address, priority="high")
            assert call(server, priority="best-effort") == [("best-effort", 1)]
        assert within(5, lambda: not server.house.clients.enter(object(), "high"))


def test_who_is_refused_takes_no_place() -> None:
    clients = Clients(has_classes=True, most_high=1)
    assert clients.enter("a", "high") is None
    assert clients.enter("b", "high") is not None
    clients.leave("b")
    clients.leave("never came")
    assert clients.enter("c", "high") is not None
    clients.leave("a")
    assert clients.enter("c", "high") is None


def test_a_number_of_high_priority_clients_needs_a_policy() -> None:
    with pytest.raises(BadValue, match="needs a policy"):
        Server("tcp://127.0.0.1:0", most_high=1)


def test_a_hello_without_a_class_is_what_it_was_before_there_were_classes() -> None:
    said = msgspec.to_builtins(Hello(1, "x", Limits()))
    assert set(said) == {"type", "protocol", "client", "limits"}
    assert msgspec.to_builtins(Hello(1, "x", Limits(), priority="high"))["priority"] == "high"


def test_a_server_from_before_there_were_classes_is_named_as_such(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class OldHello(msgspec.Struct, frozen=True, tag="hello", forbid_unknown_fields=True):
        protocol: int
        client: str
        limits: Limits
        token: str = ""
        arena: Any = None
        end: str = ""

    monkeypatch.setattr("remora.remote.wire.listener.Hello", OldHello)
    known = pytest.raises(ServerLost, match="of a version that knows priorities")
    with Server("tcp://127.0.0.1:0") as server, known:
        connect(server.address, priority="high")


def test_a_fleet_hands_on_policy_and_class(tmp_path: Any) -> None:
    specs: list[Spec] = []

    class Nowhere:
        def failed(self) -> dict[str, str]:
            return {}

        def short_of(self) -> str:
            return ""

        def close(self) -> None:
            return

    def place(given: Any) -> Nowhere:
        specs.extend(given)
        return Nowhere()

    plan = Plan(
        ["cpu"], listen="tcp://127.0.0.1:0", policy=parse_choice("priority+min-wait:min-wait=2ms")
    )
    with RunningFleet(plan, place):
        assert parse_choice(specs[0].policy) == plan.policy


@pytest.mark.slow  # starts an interpreter
@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--policy", "prority"], "unknown policy 'prority' (did you mean 'priority'?)"),
        (["--policy", "priority+slicing:turnaround=0s"], "no run is that short"),
        (["--high", "1"], "needs a policy"),
    ],
)
def test_what_cannot_be_is_refused_in_a_line(options: list[str], says: str) -> None:
    shown = subprocess.run(
        [sys.executable, "-m", "remora", "serve", "--listen", "127.0.0.1:0", *options],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert shown.returncode == 2
    assert says in shown.stderr
    assert "Traceback" not in shown.stderr
