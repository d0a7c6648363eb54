"""Fresh: a data loader that hands out a batch twice in one pass is found."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from tests.check.rides import found_in, learned_from, of
from tests.check.stories import Told, checked, learned, said
from torch.utils.data import DataLoader, Dataset, TensorDataset, get_worker_info

from remora.check.observe.batches import batch_digest
from remora.check.relations.fresh import MOST_ITERATORS, NEXT, WINDOW


def batch(digest: int | None, iterator: int = 1, **more: Any) -> Told:
    outputs = {} if digest is None else {"result.digest": (digest,)}
    return Told(NEXT, inputs={"self.identity": (iterator,)}, outputs=outputs, **more)


HEALTHY = [[batch(number)] for number in range(5)]


def test_a_batch_that_comes_again_is_found() -> None:
    invariants = learned(HEALTHY)

    assert said(invariants, "fresh") == {
        f"{NEXT} (a data loader) returns no batch twice in one pass"
    }
    [found] = checked(invariants, [[batch(1)], [batch(2)], [batch(1)]])
    assert (found.step, found.seen) == (2, "a batch with the same contents as one before")


def test_another_pass_may_be_the_same() -> None:
    invariants = learned([*HEALTHY, *[[batch(number, iterator=2)] for number in range(5)]])

    assert len(of("fresh", invariants)) == 1
    assert checked(invariants, [[batch(1, iterator) for iterator in range(40)]]) == []


def test_what_repeated_itself_in_good_health_is_not_said() -> None:
    assert said(learned([*HEALTHY, [batch(4)]]), "fresh") == set()


def test_only_the_latest_are_remembered() -> None:
    invariants = learned(HEALTHY)
    apart = [[batch(number % (WINDOW + 1)) for number in range(3 * WINDOW)]]
    forgotten = [[batch(1), *(batch(1, one) for one in range(2, 2 + MOST_ITERATORS)), batch(1)]]

    assert checked(invariants, apart) == []
    assert checked(invariants, forgotten) == []
    assert len(checked(invariants, [[batch(n % WINDOW) for n in range(WINDOW + 1)]])) == 1


def test_what_has_no_digest_or_was_not_returned_is_not_judged() -> None:
    invariants = learned([*HEALTHY, [batch(1, failed=True)]])

    assert len(of("fresh", invariants)) == 1
    assert checked(invariants, [[batch(None), batch(None)]]) == []
    assert checked(invariants, [[batch(1), batch(1, failed=True)]]) == []


def test_a_digest_is_of_every_tensor_of_a_batch() -> None:
    image, labels = torch.zeros(4, 100), torch.tensor([1, 2, 3, 4])
    one = batch_digest([image, {"labels": labels}])

    assert one == batch_digest([image.clone(), {"labels": labels.clone()}]) is not None
    assert one != batch_digest([image, {"labels": labels + 1}])
    assert one != batch_digest([image.reshape(100, 4), {"labels": labels}])
    large = torch.zeros(1 << 20)
    other = large.clone()
    other[-1] = 1
    assert batch_digest(large) != batch_digest(other)


@pytest.mark.parametrize(
    "value", [torch.zeros(4), [1, 2], "text", torch.zeros(1000, device="meta"),
              torch.eye(1000).to_sparse()]
)  # fmt: skip
def test_what_may_be_equal_by_chance_or_is_elsewhere_has_none(value: Any) -> None:
    assert batch_digest(value) is None


class Noise(Dataset[torch.Tensor]):
    """Draws its samples from a generator that every worker has a copy of."""

    def __init__(self, own_seeds: bool) -> None:
        self._random, self._own_seeds = np.random.default_rng(0), own_seeds

    def __len__(self) -> int:
        return 24

    def __getitem__(self, index: int) -> torch.Tensor:
        worker = get_worker_info()
        if self._own_seeds and worker is not None:
            self._random, self._own_seeds = np.random.default_rng(worker.id), False
        return torch.from_numpy(self._random.random(200))


def passes(own_seeds: bool, times: int = 2) -> None:
    for _ in range(times):
        for _ in DataLoader(Noise(own_seeds), batch_size=4, num_workers=2):
            pass


def test_workers_that_share_a_seed_are_found() -> None:
    invariants = learned_from(partial(passes, own_seeds=True))

    assert found_in(partial(passes, own_seeds=True, times=3), invariants) == []
    findings = found_in(partial(passes, own_seeds=False, times=1), of("fresh", invariants))
    assert len(findings) == 3  # of six batches, every other one
    assert {one.seen for one in findings} == {"a batch with the same contents as one before"}


def test_data_that_is_not_shuffled_is_fresh_in_every_epoch() -> None:
    def program(batch_size: int = 4) -> None:
        loader = DataLoader(TensorDataset(torch.randn(24, 100)), batch_size=batch_size)
        for _ in range(3):
            for _ in loader:
                pass

    invariants = learned_from(program)

    assert len(of("fresh", invariants)) == 1
    assert found_in(partial(program, batch_size=3), invariants) == []
