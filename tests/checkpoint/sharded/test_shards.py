"""What each rank saves, and what all of it is together."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from torch._C._distributed_c10d import HashStore, TCPStore

from remora.checkpoint.sharded.coordinator import Coordinator
from remora.checkpoint.sharded.shards import ELSEWHERE, SHARD, joined, localised
from remora.core.errors import CheckpointUnusable


def state_of(rank: int) -> dict[str, Any]:
    large = torch.arange(20_000.0)
    return {
        "model": {"large": large, "tied": large, "other": large + 1, "small": torch.ones(3)},
        "optimizer": {"state": {0: {"step": torch.tensor(5.0)}}, "param_groups": [{"lr": 0.1}]},
        "rng": {"torch": torch.tensor([rank])},
    }


def parts(world: int) -> list[dict[str, Any]]:
    shared = ("model", "optimizer")
    return [localised(state_of(rank), rank, world, shared) for rank in range(world)]


@pytest.mark.parametrize("world", [1, 2, 3])
def test_a_large_tensor_that_all_have_is_saved_once(world: int) -> None:
    saved = [
        name
        for part in parts(world)
        for name, value in part["model"].items()
        if isinstance(value, torch.Tensor)
    ]

    assert sorted(saved) == sorted(["large", "tied", "other"] + ["small"] * world)


@pytest.mark.parametrize("world", [1, 2, 3])
def test_all_parts_together_are_the_state_and_each_rank_keeps_its_own(world: int) -> None:
    for rank in range(world):
        whole = joined(parts(world), rank)
        expected = state_of(rank)

        assert whole.keys() == expected.keys()
        for name, value in expected["model"].items():
            assert torch.equal(whole["model"][name], value)
        assert whole["optimizer"]["param_groups"] == [{"lr": 0.1}]
        assert torch.equal(whole["rng"]["torch"], expected["rng"]["torch"])


def test_more_ranks_than_there_were_take_turns_with_what_was_a_ranks_own() -> None:
    assert int(joined(parts(2), 3)["rng"]["torch"]) == 1


def test_parts_of_a_tensor_are_put_in_their_places() -> None:
    whole = torch.arange(15.0).reshape(5, 3)
    pieces = [
        {"model": {"w": {SHARD: [[5, 3], [0, 0]], "local": whole[:3]}}},
        {"model": {"w": {SHARD: [[5, 3], [3, 0]], "local": whole[3:]}}},
        {"model": {"w": {SHARD: [[5, 3], [5, 0]], "local": whole[5:]}}},
    ]
    marked = [{**p, "shards": {"rank": r, "world": 3, "shared": ["model"]}}
              for r, p in enumerate(pieces)]  # fmt: skip

    assert torch.equal(joined(marked, 0)["model"]["w"], whole)


def test_what_is_elsewhere_names_its_rank() -> None:
    owners = {
        value[ELSEWHERE]
        for part in parts(2)
        for value in part["model"].values()
        if isinstance(value, dict)
    }

    assert owners == {0, 1}


def ranks(world: int, patience_s: float = 5.0) -> list[Coordinator]:
    store = HashStore()
    return [
        Coordinator(_Same(store), rank, world, patience_s=patience_s, number=0)
        for rank in range(world)
    ]


class _Same:
    """A store whose clone is itself: threads stand for processes here."""

    def __init__(self, store: Any) -> None:
        self._store = store

    def clone(self) -> Any:
        return self._store


def test_followers_hear_what_the_leader_announces_in_order() -> None:
    leader, *followers = ranks(3)
    heard: dict[int, list[Any]] = {}

    def listen(end: Coordinator) -> None:
        heard[end.rank] = [end.announce(None) for _ in range(3)]

    threads = [threading.Thread(target=listen, args=(end,)) for end in followers]
    for thread in threads:
        thread.start()
    for value in (True, None, [1, 2]):
        leader.announce(value)
    for thread in threads:
        thread.join()

    assert heard == {1: [True, None, [1, 2]], 2: [True, None, [1, 2]]}


def test_a_thread_that_waits_keeps_no_other_of_its_rank_from_speaking() -> None:
    """What waits is the leader's commit; what speaks, its training thread."""
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    leader, follower = (Coordinator(store, rank, 2, patience_s=5.0, number=0) for rank in range(2))
    with ThreadPoolExecutor(1) as pool:
        parts = pool.submit(leader.gather, "part")
        time.sleep(0.2)  # it waits now
        leader.announce("go on")
        assert follower.announce(None) == "go on"
        follower.deliver("part", 7)
        assert parts.result() == [7]


@pytest.mark.parametrize("troubled", [None, 0, 1, 2])
def test_all_hear_of_the_first_ranks_trouble(troubled: int | None) -> None:
    heard: dict[int, str | None] = {}

    def ask(end: Coordinator) -> None:
        heard[end.rank] = end.first("full" if end.rank == troubled else None)

    threads = [threading.Thread(target=ask, args=(end,)) for end in ranks(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    expected = None if troubled is None else f"rank {troubled}: full"
    assert heard == {0: expected, 1: expected, 2: expected}


def test_waiting_for_a_rank_that_never_comes_ends() -> None:
    leader, _ = ranks(2, patience_s=0.05)

    with pytest.raises(CheckpointUnusable, match="waited for another rank in vain"):
        leader.gather("part/1")
