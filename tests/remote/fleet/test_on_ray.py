"""Actors of Ray on two nodes, one of which is lost."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from typing import Any

import pytest
import torch
from tests.remote.conftest import decoded_here, prompt
from tests.remote.fleet.conftest import within

from remora.core.errors import BadValue, Unavailable
from remora.remote.client.placed import Placed
from remora.remote.client.server import connect
from remora.remote.client.session import RemoteSession
from remora.remote.fleet.fleet import Fleet
from remora.remote.fleet.members import Members
from remora.remote.fleet.on_ray import RayActors
from remora.remote.fleet.probe import Health
from remora.remote.fleet.ring import order
from remora.remote.fleet.running import Plan, RunningFleet

pytestmark = pytest.mark.slow

STORE_BYTES = 80 * 2**20
"""The least that Ray takes for objects: no tensor is ever among them."""


@pytest.fixture
def nodes(request: pytest.FixtureRequest) -> Iterator[Any]:
    """A Ray cluster with one node of two CPUs, or as many as are asked for; tests add others."""
    cluster_utils = pytest.importorskip("ray.cluster_utils")
    arguments = {
        "num_cpus": getattr(request, "param", 2),
        "object_store_memory": STORE_BYTES,
        "include_dashboard": False,
    }
    cluster = cluster_utils.Cluster(initialize_head=True, head_node_args=arguments)
    logging.getLogger("ray").setLevel(logging.ERROR)
    yield cluster
    cluster.shutdown()


def running(nodes: Any, stack: ExitStack) -> RunningFleet:
    plan = Plan(["cpu"] * 2, "tcp://127.0.0.1:0", threads=1, health=Health(0.2, 2.0))
    place = partial(RayActors, cluster=nodes.address, cpus=1)
    return stack.enter_context(RunningFleet(plan, place))


def _came_back(members: Members) -> bool:
    return any(each.starts > 1 for each in members.standings)


@pytest.mark.parametrize("nodes", [1], indirect=True)  # Ray may put what fits on one node
def test_sessions_go_on_when_a_node_is_lost_and_its_server_comes_back_on_another(
    nodes: Any, decoder: Placed, language_model: torch.nn.Module
) -> None:
    lost = nodes.add_node(num_cpus=1, object_store_memory=STORE_BYTES)
    nodes.wait_for_nodes()  # what Ray does not know of yet it places nothing on
    names = ["server-0", "server-1"]
    keys = {order(key, names)[0]: key for key in "abcdefgh"}
    taken: dict[str, list[int]] = {name: [] for name in names}
    with ExitStack() as stack:
        there = running(nodes, stack)
        there.wait(60)
        fleet = stack.enter_context(connect(there.address, reconnect_s=30))
        assert isinstance(fleet, Fleet)
        sessions = {
            name: RemoteSession(
                fleet.for_key(keys[name]), Placed(decoder.captured, decoder=True), deadline_s=None
            )
            for name in names
        }
        for session in sessions.values():
            session.prefill(prompt(5))
        for name in names:
            taken[name] += sessions[name].generate(5)
        nodes.add_node(num_cpus=1, object_store_memory=STORE_BYTES)
        nodes.remove_node(lost, allow_graceful=False)
        members = there.directory.members  # its server goes on for a while
        assert within(60, lambda: not members.wait_for(2, 0) or _came_back(members))
        for name in names:
            taken[name] += sessions[name].generate(95)

        moved = [name for name in names if sessions[name].recoveries]
        assert len(moved) == 1, "there was a server on each node"
        assert members.wait_for(2, 90), "Ray starts the lost one on another node"
        (standing,) = (s for s in members.standings if s.name == moved[0])
        assert standing.starts == 2

    here = decoded_here(language_model, prompt(5), 100)
    assert taken == dict.fromkeys(names, here)


def test_too_few_cpus_are_said_with_what_there_is(nodes: Any) -> None:
    plan = Plan(["cpu"] * 3, "tcp://127.0.0.1:0", threads=1)
    with RunningFleet(plan, partial(RayActors, cluster=nodes.address, cpus=1)) as there:
        assert not there.directory.members.wait_for(3, 15)
        with pytest.raises(
            Unavailable, match=r"is absent.*asked for 1 CPUs .* each of 3 servers.*has 2 CPUs"
        ):
            there.wait(0)
        assert within(5, lambda: len(there.directory.members.view.members) == 2)


def test_no_cluster_there_is_said_in_one_line() -> None:
    plan = Plan(["cpu"], "tcp://127.0.0.1:0")
    with pytest.raises(BadValue, match=r"no Ray cluster at 127\.0\.0\.1:1 .*ray start --head"):
        RunningFleet(plan, partial(RayActors, cluster="127.0.0.1:1"))
