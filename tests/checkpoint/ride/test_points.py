"""Where iterations end, from the order of optimizers' steps alone; and the next forward."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn.modules import module as module_hooks

from remora.checkpoint.ride.points import LATELY, Iterations, NextForward
from remora.checkpoint.ride.where import learn_torch
from remora.tap.job import Job


def ends(order: str, *, alone: bool = False) -> list[int]:
    """After which steps, counted from 1, an iteration is over. Each letter is an optimizer."""
    iterations = Iterations()
    found = []
    for index, optimizer in enumerate(order):
        iterations.stepped(ord(optimizer))
        if iterations.over(alone):
            found.append(index + 1)
    return found


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        ("aaaa", [2, 3, 4]),
        ("ababab", [4, 6]),
        ("abcabcabc", [6, 9]),
        ("aaabaaabaaab", [2, 3, 4, 8, 12]),
        ("", []),
    ],
    ids=["one", "two", "three", "critic", "none"],
)
def test_an_iteration_is_over_when_all_its_optimizers_have_stepped(
    order: str, expected: list[int]
) -> None:
    assert ends(order) == expected


def test_a_single_optimizer_is_known_from_its_first_step() -> None:
    assert ends("aaa", alone=True) == [1, 2, 3]


def test_a_second_phase_with_another_optimizer_has_its_ends_too() -> None:
    assert ends("a" * 4 + "b" * 5 + "b" * LATELY) == list(range(2, 10 + LATELY))


def test_an_optimizer_that_steps_no_more_is_no_part_of_the_iteration() -> None:
    alternating = "ab" * 3
    assert ends(alternating + "a" * 5)[-1] == 6
    assert ends(alternating + "a" * (LATELY + 5))[-1] == 6 + LATELY + 5


@given(st.permutations("abc"), st.integers(2, 6))
def test_cycles_end_with_their_last_optimizer_whatever_the_order(
    order: list[str], rounds: int
) -> None:
    assert ends("".join(order) * rounds) == [3 * n for n in range(2, rounds + 1)]


def test_the_next_root_forward_is_told_once_and_no_hook_stays() -> None:
    learn_torch()
    inner = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    told: list[int] = []
    job = Job(strict=True)
    upcoming = NextForward(job, lambda frame: told.append(frame.f_lineno))
    inner(torch.ones(1, 2))
    assert told == []

    upcoming.arm()
    inner(torch.ones(1, 2))
    inner(torch.ones(1, 2))
    assert len(told) == 1
    assert not module_hooks._global_forward_pre_hooks
    job.detach_all()


def test_a_transform_within_a_data_loader_is_no_forward_of_the_script() -> None:
    learn_torch()
    flatten = nn.Flatten(0)

    class Data(torch.utils.data.Dataset[torch.Tensor]):
        def __len__(self) -> int:
            return 2

        def __getitem__(self, index: int) -> torch.Tensor:
            flattened: torch.Tensor = flatten(torch.ones(2, 2))
            return flattened

    told: list[object] = []
    job = Job(strict=True)
    upcoming = NextForward(job, told.append)
    upcoming.arm()
    for batch in torch.utils.data.DataLoader(Data()):
        assert told == []
        assert batch.shape == (1, 4)
    nn.ReLU()(torch.ones(1))
    assert len(told) == 1
    job.detach_all()
