"""Consistent: variables that are equal at every step's end, and the step at which they are not."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence

import pytest
import torch
from tests.check.training import Program, check, first, learn
from torch import nn

from remora.check.relations.consistent import ConsistentLearner

STEPS = 8


def said(steps: Sequence[Mapping[str, Hashable]], fewest: int = 3) -> set[tuple[str, str]]:
    """The pairs learned from the contents at each step."""
    learner = ConsistentLearner()
    for number, contents in enumerate(steps):
        learner.compare(number, contents)
    learner.run_ended()
    pairs = [one.claim for one in learner.learned(fewest)]
    return {(one.one, one.other) for one in pairs}  # type: ignore[attr-defined]


def test_what_was_equal_throughout_is_a_pair() -> None:
    steps = [{"a": n, "b": n, "c": -n, "d": n if n != 3 else 0} for n in range(5)]

    assert said(steps) == {("a", "b")}


def test_a_class_that_was_split_stays_split() -> None:
    steps = [{"a": n, "b": n + (n == 2), "c": n + (n == 2)} for n in range(6)]

    assert said(steps) == {("b", "c")}


def test_constants_are_equal_by_chance() -> None:
    assert said([{"a": 1, "b": 1}] * 9) == set()
    assert said([{"a": min(n, 2), "b": min(n, 2)} for n in range(9)]) == set()


def test_what_came_later_or_was_away_is_compared_while_it_is_there() -> None:
    steps: list[dict[str, Hashable]] = [{"a": n, "b": n} for n in range(3)]
    steps += [{"a": n, "b": n, "c": -n, "d": -n} for n in range(3, 8)]
    steps += [{"a": 9, "c": 9, "d": 9}]

    assert said(steps) == {("a", "b"), ("c", "d")}


class Tied(nn.Module):
    def __init__(self, tie: bool = True) -> None:
        super().__init__()
        self.embedding, self.head = nn.Embedding(6, 4), nn.Linear(4, 6, bias=False)
        if tie:
            self.head.weight = self.embedding.weight

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.head(self.embedding(tokens))  # type: ignore[no-any-return]


def language(prepare: Callable[[Tied, int], object] = lambda net, step: None) -> Program:
    def program() -> None:
        net = Tied()
        optimizer = torch.optim.AdamW(net.parameters(), lr=0.1)
        for step in range(STEPS):
            optimizer.zero_grad()
            net(torch.tensor([0, 1, 2])).square().mean().backward()
            optimizer.step()
            prepare(net, step)

    return program


@pytest.mark.slow
def test_tied_weights_that_come_apart() -> None:
    def unties(net: Tied, step: int) -> None:
        if step == 3:
            net.head.weight = nn.Parameter(net.head.weight.detach().clone())

    invariants = learn(language())

    one = first(check(invariants, language(unties)), "equals")
    assert (
        one.invariant.words() == "net.embedding.weight equals net.head.weight at the end of a step"
    )
    assert (one.step, one.seen) == (4, "they differ after step 4")
    assert check(invariants, language()) == []


def following(keep_up: Callable[[int], bool], size: int = 4) -> Program:
    """A copy that takes over the parameters before every step, where ``keep_up`` says so."""

    def program() -> None:
        net, copy = nn.Linear(size, size), nn.Linear(size, size)
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1)

        def follow(step: int) -> None:
            if keep_up(step):
                copy.load_state_dict(net.state_dict())
            elif size > 4:
                copy.load_state_dict(net.state_dict())
                copy.weight.data[1, 1] += 1

        for step in range(STEPS):
            optimizer.zero_grad()
            net(torch.randn(3, size)).square().mean().backward()
            handle = optimizer.register_step_post_hook(lambda *_, step=step: follow(step))
            optimizer.step()
            handle.remove()

    return program


@pytest.mark.slow
def test_a_copy_that_stops_following_is_found_at_that_step() -> None:
    with_hooks_first = following(lambda step: True)
    invariants = learn(with_hooks_first)

    pairs = [one.words() for one in invariants if one.relation == "consistent"]
    assert any("net.weight" in one and "copy.weight" in one for one in pairs)
    found = check(invariants, following(lambda step: step != 5))
    assert {one.step for one in found if one.invariant.relation == "consistent"} == {5}


@pytest.mark.slow
def test_a_difference_in_no_sample_is_found_when_all_is_compared(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    size = 400  # 640 kB: element (1, 1) is in no sampled place
    invariants = learn(following(lambda step: True, size))
    monkeypatch.setattr("remora.check.observe.variables.WHOLE_EVERY", 4)

    found = check(invariants, following(lambda step: step < 1, size))

    assert {one.step for one in found if one.invariant.relation == "consistent"} == {4}
