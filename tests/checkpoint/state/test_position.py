"""A DataLoader goes on in the middle of an epoch as if it had never stopped."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    DistributedSampler,
    IterableDataset,
    RandomSampler,
    SubsetRandomSampler,
    WeightedRandomSampler,
)

from remora.checkpoint.state.parts import Parts
from remora.checkpoint.state.position import DataPosition
from remora.checkpoint.state.tree import Flat, flatten, unflatten
from remora.core.errors import CheckpointDamaged, StateMismatch

# On a machine of one core, torch says that two workers are many.
pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create")

SAMPLES = 23


class Items(Dataset[torch.Tensor]):
    """Gives an index and, where asked to, a random number; notes what was loaded."""

    def __init__(self, *, augment: bool = False, samples: int = SAMPLES) -> None:
        self.augment, self.samples = augment, samples
        self.loaded: list[int] = []

    def __len__(self) -> int:
        return self.samples

    def __getitem__(self, index: int) -> torch.Tensor:
        self.loaded.append(index)
        drawn = random.random() + float(np.random.rand() + torch.rand(())) if self.augment else 0.0
        return torch.tensor([float(index), drawn], dtype=torch.float64)


class Stream(IterableDataset[torch.Tensor]):
    def __iter__(self) -> Iterator[torch.Tensor]:
        for index in range(SAMPLES):
            yield torch.tensor([float(index), float(torch.rand(()))])


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(7)


Make = Callable[[], DataLoader[Any]]
LOADERS: dict[str, Make] = {
    "in-order": lambda: DataLoader(Items(), 4),
    "shuffled": lambda: DataLoader(Items(augment=True), 4, shuffle=True),
    "dropping-the-last": lambda: DataLoader(Items(augment=True), 4, shuffle=True, drop_last=True),
    "own-generator": lambda: DataLoader(
        Items(augment=True), 4, shuffle=True, generator=generator()
    ),
    "unbatched": lambda: DataLoader(Items(augment=True), None, shuffle=True),
    "replacement": lambda: DataLoader(
        Items(augment=True),
        4,
        sampler=RandomSampler(range(SAMPLES), True, 40, generator=generator()),
    ),
    "replacement-global": lambda: DataLoader(
        Items(augment=True), 4, sampler=RandomSampler(range(SAMPLES), True, 40)
    ),
    "weighted": lambda: DataLoader(
        Items(augment=True), 4, sampler=WeightedRandomSampler([1.0, 2.0] * 10, 20)
    ),
    "batch-sampler": lambda: DataLoader(
        Items(augment=True),
        batch_sampler=BatchSampler(SubsetRandomSampler(range(SAMPLES)), 3, drop_last=False),
    ),
    "workers": lambda: DataLoader(Items(), 4, shuffle=True, num_workers=2),
    "workers-own-generator": lambda: DataLoader(
        Items(), 4, shuffle=True, num_workers=1, generator=generator(), prefetch_factor=3
    ),
    "workers-replacement": lambda: DataLoader(
        Items(),
        2,
        sampler=RandomSampler(range(SAMPLES), True, 80, generator=generator()),
        num_workers=2,
    ),
    "persistent-workers": lambda: DataLoader(
        Items(), 4, shuffle=True, num_workers=2, persistent_workers=True
    ),
}
QUICK = sorted(name for name in LOADERS if "worker" not in name)


def copied(parts: Parts) -> Flat:
    flat = flatten(parts.capture())
    return Flat({name: tensor.clone() for name, tensor in flat.tensors.items()}, flat.document)


def apply(parts: Parts, saved: Flat) -> None:
    parts.apply(unflatten(saved.document, saved.tensors.__getitem__))


def record(loader: DataLoader[Any], passes: int) -> list[Any]:
    """What a training loop sees: batches, the ends of passes, and random numbers of its own."""
    seen: list[Any] = []
    for _ in range(passes):
        for batch in loader:
            seen += [step(batch)]
        seen.append("end")
    return seen


def step(batch: torch.Tensor) -> Any:
    return batch.tolist(), float(torch.rand(())), random.random()


def run_until(
    loader: DataLoader[Any], parts: Parts, stop: int, more: int
) -> tuple[Flat, list[Any]]:
    """Save after ``stop`` batches in all, go on for ``more`` passes: the state, and what came."""
    given, saved = 0, None
    while saved is None:
        seen: list[Any] = []
        for batch in loader:
            seen.append(step(batch))
            given += 1
            if given == stop:
                saved = copied(parts)
                seen.clear()
    return saved, [*seen, "end", *record(loader, more)]


def seed() -> None:
    random.seed(3)
    np.random.seed(3)
    torch.manual_seed(3)


def goes_on(make: Make, stop: int) -> DataLoader[Any]:
    seed()
    first = make()
    saved, wanted = run_until(first, Parts(loader=first), stop, 2)
    again = make()
    parts = Parts(loader=again)
    torch.manual_seed(99)
    apply(parts, saved)
    assert record(again, 3) == wanted
    parts.close()
    return again


@pytest.mark.parametrize("kind", LOADERS)
@pytest.mark.parametrize("stop", [2, 8], ids=["first-epoch", "second-epoch"])
def test_it_goes_on_exactly(kind: str, stop: int) -> None:
    goes_on(LOADERS[kind], stop)


@settings(deadline=None, max_examples=40)
@given(st.sampled_from(QUICK), st.integers(1, 20))
def test_it_goes_on_exactly_from_anywhere(kind: str, stop: int) -> None:
    goes_on(LOADERS[kind], stop)


@pytest.mark.parametrize(("before", "after"), [(2, 0), (2, 1), (0, 2), (1, 2)])
def test_the_number_of_workers_may_change(before: int, after: int) -> None:
    """Even where indices are drawn as they are needed, 32 at once, and workers are ahead."""

    def make(workers: int) -> DataLoader[Any]:
        sampler = RandomSampler(range(SAMPLES), True, 80, generator=generator())
        return DataLoader(Items(), 2, sampler=sampler, num_workers=workers)

    seed()
    loader = make(before)
    saved, wanted = run_until(loader, Parts(loader=loader), 14, 1)
    again = make(after)
    apply(Parts(loader=again), saved)
    batches = [each if each == "end" else each[0] for each in record(again, 2)]
    assert batches == [each if each == "end" else each[0] for each in wanted]


def test_skipped_batches_are_not_loaded() -> None:
    loader = goes_on(LOADERS["shuffled"], 4)
    assert isinstance(loader.dataset, Items)
    assert len(loader.dataset.loaded) == SAMPLES - 16 + 2 * SAMPLES


def test_at_an_epoch_s_last_batch_the_end_is_still_to_come() -> None:
    make = LOADERS["shuffled"]
    loader = make()
    parts = Parts(loader=loader)
    saved, _ = run_until(loader, parts, len(loader), 0)
    again = make()
    apply(Parts(loader=again), saved)
    assert list(again) == []
    assert len(list(again)) == len(again)


def test_between_epochs_the_next_is_a_fresh_one() -> None:
    make = LOADERS["own-generator"]
    loader = make()
    position = DataPosition(loader)
    record(loader, 2)
    assert (position.epoch, position.batch) == (2, 0)
    saved = copied(parts := Parts(loader=loader))
    wanted = record(loader, 1)
    again = make()
    apply(Parts(loader=again), saved)
    assert record(again, 1) == wanted
    parts.close()


@pytest.mark.parametrize("kind", ["shuffled", "persistent-workers"])
def test_a_pass_left_by_break_is_not_gone_on_with(kind: str) -> None:
    loader = LOADERS[kind]()
    position = DataPosition(loader)
    for number, _ in enumerate(loader):
        assert (position.epoch, position.batch) == (0, number + 1)
        if number == 2:
            break
    assert (position.epoch, position.batch) == (1, 0)
    assert position.state_dict()["start"] is None


def test_a_checkpoint_before_the_resumed_pass_is_the_same_checkpoint() -> None:
    make = LOADERS["shuffled"]
    loader = make()
    saved, wanted = run_until(loader, Parts(loader=loader), 3, 0)
    again, last = make(), make()
    parts = Parts(loader=again)
    apply(parts, saved)
    apply(Parts(loader=last), copied(parts))
    assert record(last, 1) == wanted


def test_it_can_stop_and_go_on_many_times() -> None:
    make = LOADERS["workers"]
    seed()
    whole = record(make(), 2)
    seed()
    loader = make()
    parts = Parts(loader=loader)
    seen: list[Any] = []
    while len(seen) < len(whole):
        for batch in loader:
            seen.append(step(batch))
            saved = copied(parts)
            loader = make()
            parts = Parts(loader=loader)
            torch.manual_seed(len(seen))
            apply(parts, saved)
            break
        else:
            seen.append("end")
    assert seen == whole


def test_it_goes_on_in_the_same_process() -> None:
    loader = LOADERS["persistent-workers"]()
    parts = Parts(loader=loader)
    for stop in (2, 8):
        saved, wanted = run_until(loader, parts, stop, 1)
        apply(parts, saved)
        assert record(loader, 2) == wanted


def test_a_distributed_sampler_is_told_the_epoch_again() -> None:
    def make() -> DataLoader[Any]:
        sampler: DistributedSampler[torch.Tensor] = DistributedSampler(
            Items(), num_replicas=2, rank=1
        )
        return DataLoader(Items(), 3, sampler=sampler)

    loader = make()
    assert isinstance(loader.sampler, DistributedSampler)
    loader.sampler.set_epoch(5)
    saved, wanted = run_until(loader, Parts(loader=loader), 2, 0)
    again = make()
    apply(Parts(loader=again), saved)
    assert record(again, 1) == wanted


def test_workers_draw_from_the_epoch_s_seed_again() -> None:
    def make() -> DataLoader[Any]:
        return DataLoader(Items(augment=True), 4, num_workers=1)

    seed()
    loader = make()
    parts = Parts(loader=loader)
    first = next(iterator := iter(loader))
    saved = copied(parts)
    del iterator
    again = make()
    apply(Parts(loader=again), saved)
    assert torch.equal(next(iter(again))[:, 1], first[:, 1])


@pytest.mark.parametrize("workers", [0, 2])
def test_loading_the_skipped_batches_is_exact_for_workers_too(workers: int) -> None:
    def make() -> DataLoader[Any]:
        return DataLoader(Items(augment=True), 4, shuffle=True, num_workers=workers)

    seed()
    loader = make()
    saved, wanted = run_until(loader, Parts(loader=loader), 8, 1)
    again = make()
    apply(Parts(loader=DataPosition(again, load_skipped=True)), saved)
    assert record(again, 2) == wanted


@pytest.mark.parametrize("workers", [0, 2])
def test_a_stream_is_read_over_and_that_is_said_once(workers: int) -> None:
    def make() -> DataLoader[Any]:
        return DataLoader(Stream(), 4, num_workers=workers)

    seed()
    loader = make()
    parts = Parts(loader=loader)
    saved, wanted = run_until(loader, parts, 3, 1)
    again = make()
    its_parts = Parts(loader=again)
    apply(its_parts, saved)
    with pytest.warns(UserWarning, match="Stream cannot be entered in the middle"):
        assert record(again, 2) == wanted
    apply(its_parts, saved)
    assert record(again, 2) == wanted


class Doubling(DataLoader[Any]):
    """A loader with an iteration of its own."""

    def __iter__(self) -> Any:
        for batch in super().__iter__():
            yield batch * 2


def test_a_loader_with_an_iteration_of_its_own_is_read_over() -> None:
    def make() -> DataLoader[Any]:
        return Doubling(Items(augment=True), 4, shuffle=True)

    seed()
    loader = make()
    saved, wanted = run_until(loader, Parts(loader=loader), 8, 1)
    again = make()
    apply(Parts(loader=again), saved)
    with pytest.warns(UserWarning, match="cannot be entered"):
        assert record(again, 2) == wanted


def test_watching_changes_nothing_and_leaves_no_trace() -> None:
    seed()
    plain = record(LOADERS["shuffled"](), 2)
    seed()
    loader = LOADERS["shuffled"]()
    before = dict(vars(loader))
    one, two = Parts(loader=loader), Parts(loader=loader)
    assert record(loader, 2) == plain
    assert type(loader).__name__ == "DataLoader"
    assert isinstance(loader, DataLoader)
    assert len(iter(loader)) == len(loader)
    one.close()
    one.close()
    assert type(loader) is not DataLoader
    two.close()
    assert type(loader) is DataLoader
    assert vars(loader) == before


def test_two_that_watch_one_loader_see_one_position() -> None:
    loader = LOADERS["shuffled"]()
    saved, wanted = run_until(loader, Parts(loader=loader), 3, 0)
    again = LOADERS["shuffled"]()
    saver, restorer = Parts(loader=again), Parts(loader=again)
    apply(restorer, saved)
    iterator = iter(again)
    next(iterator)
    assert saver.capture()["loader"]["batch"] == 4
    assert len(wanted) - 1 == len(again) - 3


class Stateful(DataLoader[Any]):
    """Keeps a position of its own, as torchdata's StatefulDataLoader does."""

    position = 0

    def state_dict(self) -> dict[str, Any]:
        return {"position": self.position}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.position = state["position"]


def test_a_loader_with_a_state_of_its_own_is_used_as_it_is() -> None:
    loader, again = Stateful(Items()), Stateful(Items())
    loader.position = 5
    apply(Parts(loader=again), copied(Parts(loader=loader)))
    assert again.position == 5
    assert type(again) is Stateful


def test_a_position_in_other_data_is_refused() -> None:
    loader = DataLoader(Items(), 4)
    saved, _ = run_until(loader, Parts(loader=loader), 2, 0)
    other = DataLoader(Items(samples=9), 5)
    with pytest.raises(StateMismatch, match="loader: batch_size was 4, is 5; loader: samples was"):
        apply(Parts(loader=other), saved)
    state = unflatten(saved.document, saved.tensors.__getitem__)
    lines = Parts(loader=other).apply(state, strict=False)
    assert "loader begins at its first batch" in lines
    assert len(list(other)) == 2


def test_a_sampler_that_ends_too_early_is_said() -> None:
    def make(indices: int) -> DataLoader[Any]:
        return DataLoader(Items(), 2, sampler=SubsetRandomSampler(range(indices)))

    loader = make(20)
    saved, _ = run_until(loader, Parts(loader=loader), 8, 0)
    other = make(10)
    apply(Parts(loader=other), saved)
    with pytest.raises(StateMismatch, match="8 batches into its epoch, but the loader now gives 5"):
        iter(other)
    assert len(list(other)) == 5


@pytest.mark.parametrize("wrong", [{"epoch": -1}, {"batch": "x"}, {"epoch": None}], ids=range(3))
def test_a_position_that_is_none_is_refused(wrong: dict[str, Any]) -> None:
    position = DataPosition(DataLoader(Items()))
    with pytest.raises(CheckpointDamaged, match="no position"):
        position.load_state_dict(position.state_dict() | wrong)
