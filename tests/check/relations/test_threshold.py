"""Threshold: what is returned stays within the bound that was given."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from tests.check.rides import found_in, learned_from, of
from tests.check.stories import Told, checked, learned, said


def call(given: Any, returned: Any, failed: bool = False) -> Told:
    return Told("f", inputs=given, outputs=returned, failed=failed)


def test_a_result_beyond_its_bound_is_found() -> None:
    invariants = learned([[call({"max_size": 10}, {"result": size})] for size in (9, 10, 4, 9)])

    assert said(invariants, "threshold") == {"result of f is at most max_size"}
    assert checked(invariants, [[call({"max_size": 3}, {"result": 3})]]) == []
    [found] = checked(invariants, [[call({"max_size": 3}, {"result": 4})]])
    assert found.seen == "result is 4, max_size is 3"


def test_a_minimum_is_a_bound_from_below() -> None:
    invariants = learned([[call({"min_size": 10}, {"result.length": 11})]] * 3)

    assert said(invariants, "threshold") == {"result.length of f is at least min_size"}
    assert len(checked(invariants, [[call({"min_size": 10}, {"result.length": 9})]])) == 1


@pytest.mark.parametrize("name", ["maximize", "climax", "size", "min_or_max"])
def test_only_what_is_called_a_bound_is_one(name: str) -> None:
    assert said(learned([[call({name: 10}, {"result": 10})]] * 3), "threshold") == set()


@pytest.mark.parametrize(
    "sizes", [(3, 4, 2, 3), (9, 10, 11, 9), (9, 3, 3, 3)], ids=["far", "beyond", "seldom near"]
)
def test_what_is_not_bounded_by_it_is_not_said(sizes: tuple[int, ...]) -> None:
    steps = [[call({"max_size": 10}, {"result": size})] for size in sizes]

    assert said(learned(steps), "threshold") == set()


@pytest.mark.parametrize("bound", [True, None, "10"])
def test_a_bound_is_a_number(bound: Any) -> None:
    assert said(learned([[call({"max_size": bound}, {"result": 1})]] * 3), "threshold") == set()


def test_what_was_added_to_an_input_is_held_against_the_bound() -> None:
    def step(given: int, returned: int) -> list[Told]:
        return [call({"x.shape": (2, given), "max_new": 8}, {"result.shape": (2, returned)})]

    invariants = learned([step(100, 108), step(200, 207), step(300, 308)])

    assert said(invariants, "threshold") == {
        "the last size of result less that of x of f is at most max_new"
    }
    [found] = checked(invariants, [step(5, 14)])
    assert found.seen == "the last size of result less that of x is 9, max_new is 8"
    assert checked(invariants, [step(5, 13)]) == []


def test_what_lacks_one_of_the_two_is_not_judged() -> None:
    invariants = learned([[call({"max_size": 10}, {"result": 10})]] * 3)

    assert checked(invariants, [[call({}, {"result": 11}), call({"max_size": 10}, {})]]) == []
    assert checked(invariants, [[call({"max_size": None}, {"result": 11})]]) == []
    assert checked(invariants, [[call({"max_size": 1}, {"result": 11}, failed=True)]]) == []


def generate(tokens: torch.Tensor, max_new_tokens: int, extra: int = 0) -> torch.Tensor:
    for _ in range(max_new_tokens + extra):
        tokens = torch.cat([tokens, tokens[:, -1:]], dim=1)
    return tokens


def prompts(extra: int = 0, batch: int = 2) -> None:
    for length in (5, 9, 30, 50):
        generate(torch.zeros(batch, length, dtype=torch.int64), max_new_tokens=8, extra=extra)


def test_a_loop_that_generates_too_many_tokens_is_found() -> None:
    invariants = of("threshold", learned_from(prompts, also=[f"{__name__}.generate"]))

    assert len(invariants) == 1
    assert found_in(partial(prompts, batch=3), invariants) == []
    found = found_in(partial(prompts, extra=1), invariants)
    assert [one.seen for one in found] == [
        "the last size of result less that of tokens is 9, max_new_tokens is 8"
    ] * 4
