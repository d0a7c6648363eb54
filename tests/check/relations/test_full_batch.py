"""Full batch: a data loader whose batches are not of the size that was asked for is found."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from tests.check.rides import found_in, learned_from, of
from tests.check.stories import Told, checked, learned, said
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from remora.check.invariants import Invariant
from remora.check.loaders import collate, rows_due
from remora.check.relations.fresh import NEXT

OWN = "train.collate"


def batch(rows: int | None, due: int | None = 8, collate: str = OWN, **more: Any) -> Told:
    inputs = {"self.collate": collate} | ({} if due is None else {"self.rows_due": due})
    return Told(NEXT, inputs=inputs, outputs={} if rows is None else {"result.rows": rows}, **more)


HEALTHY = [[batch(8)] for _ in range(4)] + [[batch(3, due=3)]]


def test_a_batch_of_fewer_rows_than_are_due_is_found() -> None:
    invariants = learned(HEALTHY)

    assert said(invariants, "full batch") == {
        f"{NEXT} (a data loader) returns batches of batch_size rows when self.collate is '{OWN}'"
    }
    [found] = checked(invariants, [[batch(8)], [batch(4)]])
    assert (found.step, found.seen) == (1, "4 rows where 8 are due")


def test_a_function_that_turns_rows_is_said_nothing_of() -> None:
    invariants = learned([*HEALTHY, [batch(20, collate="other.time_first")]])

    assert len(of("full batch", invariants)) == 1
    assert checked(invariants, [[batch(20, collate="other.time_first")]]) == []
    assert said(learned([*HEALTHY, [batch(4)]]), "full batch") == set()


def test_torchs_own_function_cannot_be_wrong_and_nothing_is_said_of_it() -> None:
    own = str(collate(iter(DataLoader(TensorDataset(torch.zeros(5, 2))))))

    assert said(learned([[batch(8, collate=own)]] * 5), "full batch") == set()


def test_what_has_no_size_or_was_not_returned_is_not_judged() -> None:
    invariants = learned([*HEALTHY, [batch(4, failed=True)]])

    assert len(of("full batch", invariants)) == 1
    assert checked(invariants, [[batch(None), batch(4, due=None), batch(4, failed=True)]]) == []


# ---------------------------------------------------------------- real loaders


def folded(rows: list[Any]) -> torch.Tensor:
    return torch.stack([one for (one,) in rows]).reshape(-1, 4)


def stacked(rows: list[Any]) -> torch.Tensor:
    return torch.stack([one for (one,) in rows])


stacked.__qualname__ = folded.__qualname__  # the same function, before and after


def train(put_together: Callable[[list[Any]], torch.Tensor], passes: int = 2) -> None:
    model = torch.nn.Linear(2, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    data = DataLoader(TensorDataset(torch.randn(20, 2)), 8, collate_fn=put_together)
    for _ in range(passes):
        for x in data:
            optimizer.zero_grad()
            model(x[:, :2]).sum().backward()
            optimizer.step()


@pytest.fixture(scope="module")
def healthy() -> list[Invariant]:
    return of("full batch", learned_from(partial(train, stacked)))


@pytest.mark.slow
def test_rows_folded_into_one_are_found_in_the_first_step(healthy: list[Invariant]) -> None:
    found = found_in(partial(train, folded), healthy)

    assert found_in(partial(train, stacked), healthy) == []
    assert (found[0].step, found[0].seen) == (0, "4 rows where 8 are due")
    assert {one.seen for one in found[1:3]} == {"4 rows where 8 are due", "2 rows where 4 are due"}


class Stream(IterableDataset):  # type: ignore[type-arg]
    def __iter__(self) -> Any:
        return iter(torch.arange(10.0).reshape(5, 2))


def test_of_data_without_a_length_nothing_is_due() -> None:
    assert rows_due(iter(DataLoader(Stream(), batch_size=2))) is None
    assert rows_due(iter(DataLoader(TensorDataset(torch.zeros(5, 2)), batch_size=None))) is None
    assert rows_due(iter([1])) is None
    assert rows_due(iter(DataLoader(TensorDataset(torch.zeros(5, 2)), batch_size=2))) == 2


def test_what_puts_rows_together_has_a_name() -> None:
    data = TensorDataset(torch.zeros(5, 2))
    called = f"{folded.__module__}.folded"

    assert collate(iter(DataLoader(data, collate_fn=folded))) == called
    assert collate(iter(DataLoader(data, collate_fn=partial(folded)))) == called
    assert str(collate(iter(DataLoader(data)))).endswith("default_collate")
    assert collate(iter([1])) is None
