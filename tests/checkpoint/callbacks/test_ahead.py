"""A loader whose batches are fetched one ahead goes on after the one the loop was given."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from tests.checkpoint.callbacks.data import SAMPLES, Drawn, Stream
from torch.utils.data import DataLoader, RandomSampler

from remora.checkpoint.callbacks.ahead import AheadPosition
from remora.checkpoint.state.rng import capture_rng, restore_rng
from remora.checkpoint.state.tree import flatten, unflatten
from remora.core.errors import StateMismatch

BATCHES = SAMPLES // 2


def one_ahead(loader: DataLoader[Any]) -> Iterator[Any]:
    """As accelerate does: fetches a batch, then gives the one before."""
    fetching = iter(loader)
    try:
        waits = next(fetching)
    except StopIteration:
        return
    for fetched in fetching:
        yield waits
        waits = fetched
    yield waits


def loader_of(order: str, workers: int = 0, batch: int = 2) -> DataLoader[Any]:
    if order == "stream":
        return DataLoader(Stream(), batch_size=batch, num_workers=workers)
    generator = None if order == "global" else torch.Generator().manual_seed(5)
    sampler = RandomSampler(Drawn(), replacement=order == "replacement", generator=generator)
    return DataLoader(
        Drawn(), batch_size=batch, sampler=sampler, num_workers=workers, generator=generator
    )


def steps(loader: DataLoader[Any], passes: int) -> Iterator[float]:
    """Each step's outcome: of its batch, and of draws that the step itself makes."""
    for _ in range(passes):
        for inputs, _ in one_ahead(loader):
            yield float(inputs.sum()) + random.random() + float(torch.rand(()))


def seeded() -> None:
    random.seed(1)
    torch.manual_seed(1)


def stored(state: dict[str, Any]) -> dict[str, Any]:
    """As it is after it went to disk and back."""
    flat = flatten(state)
    return unflatten(flat.document, flat.tensors.__getitem__)


@pytest.mark.filterwarnings("ignore:.*cannot be entered in the middle")
@pytest.mark.parametrize("given", [1, BATCHES - 1, BATCHES, BATCHES + 1, 2 * BATCHES - 1])
@pytest.mark.parametrize("order", ["global", "generator", "replacement", "stream"])
def test_it_goes_on_as_if_nothing_had_happened(order: str, given: int) -> None:
    seeded()
    whole = list(steps(loader_of(order), 3))
    loader = loader_of(order)
    position = AheadPosition(loader, lambda: True)
    seeded()
    before = steps(loader, 3)
    assert [next(before) for _ in range(given)] == whole[:given]
    state = stored({"position": position.state_dict(), "rng": capture_rng()})
    torch.manual_seed(99)
    random.seed(99)

    loader = loader_of(order)
    position = AheadPosition(loader, lambda: True)
    restore_rng(state["rng"])
    position.load_state_dict(state["position"])
    after = list(steps(loader, 3 - position.epoch))

    assert after == whole[given:]
    position.close()


def test_workers_that_draw_need_the_skipped_batches_loaded() -> None:
    seeded()
    whole = list(steps(loader_of("global", workers=2), 1))
    resumed = {}
    for load_skipped in (False, True):
        loader = loader_of("global", workers=2)
        position = AheadPosition(loader, lambda: True)
        seeded()
        before = steps(loader, 1)
        for _ in range(4):
            next(before)
        state = stored(position.state_dict())
        before.close()
        loader = loader_of("global", workers=2)
        position = AheadPosition(loader, lambda: True, load_skipped=load_skipped)
        position.load_state_dict(state)
        resumed[load_skipped] = list(steps(loader, 1))
    assert resumed[True] == whole[4:]
    assert len(resumed[False]) == len(whole[4:])
    assert resumed[False] != resumed[True]


def test_a_position_that_was_not_used_is_the_one_restored() -> None:
    loader = loader_of("global")
    position = AheadPosition(loader, lambda: True)
    before = steps(loader, 1)
    next(before)
    state = position.state_dict()
    fresh = loader_of("global")
    other = AheadPosition(fresh, lambda: True)
    other.load_state_dict(stored(state))
    assert flatten(other.state_dict()).document == flatten(state).document


def test_another_batch_size_is_refused() -> None:
    loader = loader_of("global")
    position = AheadPosition(loader, lambda: True)
    before = steps(loader, 1)
    next(before)
    larger = loader_of("global", batch=4)
    other = AheadPosition(larger, lambda: True)
    with pytest.raises(
        StateMismatch, match="batch_size was 2, is 4; batches in a pass were 11, are 6"
    ):
        other.load_state_dict(position.state_dict())


def test_the_loader_is_left_as_it_was_found() -> None:
    loader = loader_of("global")
    position = AheadPosition(loader, lambda: True)
    assert type(loader) is not DataLoader
    position.close()
    assert type(loader) is DataLoader
