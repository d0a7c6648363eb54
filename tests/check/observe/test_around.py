"""What a look around a call proves, and what it leaves open until later."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import pytest
import torch
from torch import nn

from remora.check.calls import OPTIMIZER_STEP, Call
from remora.check.observation import (
    CHANGED,
    FINITE,
    GRADIENT,
    KEPT,
    PARAMETER,
    SET,
    ZERO_OR_NONE,
    Look,
    Observation,
)  # fmt: skip
from remora.check.observe import contents
from remora.check.observe.around import Around, Unsettled, settled
from remora.check.observe.moment import Moment
from remora.check.observe.variables import Variables
from remora.check.observe.watched import LONGEST_WAIT, WHOLE_EVERY
from remora.tap.job import Job

LARGE = 300
"""Rows and columns of a tensor of 360 kB, of which only a sample is read."""


class Looking:
    """Looks at the variables of ``net`` around calls of a function."""

    def __init__(self, net: nn.Module, *looks: Look) -> None:
        variables = Variables(Job())
        variables.ran(net)
        self._around, self._order = Around(variables, looks), itertools.count()
        self.fetches = 0

    def seen(self, function: Callable[[], object], subject: object = None) -> list[Observation]:
        call = Call(OPTIMIZER_STEP, next(self._order), 1, None, 0)
        self._around.begin(call, subject, Moment())
        function()
        self.raw = self._around.end(call, Moment())
        return settled(self.raw)

    def facts(self, to: str, function: Callable[[], object]) -> dict[str, bool | None]:
        return {one.name.rpartition(".")[2]: one.holds(to) for one in self.seen(function)}


def bump(tensor: torch.Tensor, place: int) -> None:
    tensor.data[place, place].add_(1)


def nothing() -> None:
    pass


class One(nn.Module):
    def __init__(self, rows: int = 4, columns: int = 4) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(rows, columns))


def writes(net: One) -> dict[str, Callable[[], object]]:
    """Ways to change a parameter, with where torch counts its versions told apart below."""
    fused = torch.optim.AdamW(net.parameters(), fused=True)
    net.weight.grad = torch.ones_like(net.weight)
    return {
        "fused": fused.step,
        "data": lambda: net.weight.data.mul_(2),
        "numpy": lambda: net.weight.detach().numpy().__imul__(2),
        "in place": lambda: net.weight.detach().mul_(2),
    }


@pytest.mark.parametrize("how", ["fused", "data", "numpy", "in place"])
@pytest.mark.parametrize("size", [4, LARGE])
def test_every_way_to_write_is_seen(how: str, size: int) -> None:
    net = One(size, size)
    write = writes(net)[how]
    looking = Looking(net, Look(PARAMETER, CHANGED))

    for _ in range(3):
        assert looking.facts(CHANGED, write) == {"weight": True}


@pytest.mark.parametrize("how", ["fused", "data", "numpy"])
def test_versions_do_not_tell_of_every_write(how: str) -> None:
    """Why contents are compared: if one of these fails, torch has begun to count these writes."""
    net = One()
    write = writes(net)[how]
    before = net.weight._version
    write()

    assert net.weight._version == before


@pytest.mark.parametrize("size", [4, 64])
def test_of_a_small_tensor_every_element_counts_in_every_call(size: int) -> None:
    net = One(size, size)
    looking = Looking(net, Look(PARAMETER, CHANGED))

    for place in (0, 1, size // 2, size - 1):
        assert looking.facts(CHANGED, partial(bump, net.weight, place)) == {
            "weight": True
        }  # fmt: skip
        assert looking.facts(CHANGED, nothing) == {"weight": False}


def everything(net: One) -> None:
    net.weight.data.add_(1)


def one_element(net: One) -> None:
    net.weight.data[1, 1].add_(1)


def neither(net: One) -> None:
    """Changes nothing."""


SEEN_OF_A_LARGE_ONE = [
    ([everything, neither, neither, everything], [True, None, False, True]),
    ([everything, one_element, one_element], [True, None, True]),
]


@pytest.mark.parametrize(("done", "seen"), SEEN_OF_A_LARGE_ONE)
def test_a_large_tensor_is_read_whole_at_first_and_then_one_call_later(
    done: list[Callable[[One], None]], seen: list[bool | None]
) -> None:
    looking = Looking(net := One(LARGE, LARGE), Look(PARAMETER, CHANGED))

    assert [looking.facts(CHANGED, partial(how, net))["weight"] for how in done] == seen


def test_what_changes_at_every_other_call_is_seldom_read_whole() -> None:
    looking = Looking(net := One(LARGE, LARGE), Look(PARAMETER, CHANGED))
    kept = [
        [looking.facts(CHANGED, how)["weight"] for how in (partial(everything, net), nothing)][1]
        for _ in range(100)
    ]

    assert set(kept) <= {None, False}
    assert kept.count(False) < 10


def test_after_a_long_time_of_changing_it_is_read_whole_at_once() -> None:
    looking = Looking(net := One(LARGE, LARGE), Look(PARAMETER, CHANGED))
    for how in [everything, neither] * 20 + [everything] * LONGEST_WAIT:
        looking.facts(CHANGED, partial(how, net))

    assert [looking.facts(CHANGED, nothing)["weight"] for _ in range(2)] == [None, False]


def test_the_first_call_of_all_decides() -> None:
    assert Looking(net := One(LARGE, LARGE), Look(PARAMETER, CHANGED)).facts(CHANGED, nothing) == {
        "weight": False
    }
    assert net.weight.shape == (LARGE, LARGE)


def test_whole_reads_become_rare_where_samples_never_decide() -> None:
    net = One(LARGE, LARGE)
    looking = Looking(net, Look(PARAMETER, CHANGED))
    decided = [
        number for number in range(260)
        if looking.facts(CHANGED, lambda: net.weight.data[1, 1].add_(1))["weight"]
    ]  # fmt: skip

    gaps = [later - earlier for earlier, later in itertools.pairwise(decided)]
    assert gaps[:8] == [1, 2, 4, 8, 16, 32, 64, 64]


def test_a_learner_decides_in_every_call() -> None:
    net = One(LARGE, LARGE)
    looking = Looking(net, Look(PARAMETER, CHANGED, exact=True))
    told = [nothing, lambda: net.weight.data[1, 1].add_(1)] * 3

    assert [looking.facts(CHANGED, how)["weight"] for how in told] == [False, True] * 3


def test_what_nobody_is_concerned_with_is_not_looked_at() -> None:
    net = nn.Linear(2, 2)
    net.bias.requires_grad_(False)
    looking = Looking(
        net, Look(PARAMETER, CHANGED, concerns=lambda one: bool(one["variable.requires_grad"]))
    )
    assert looking.facts(CHANGED, nothing) == {"weight": False}
    net.bias.requires_grad_(True)
    assert looking.facts(CHANGED, nothing) == {"weight": False, "bias": False}


def test_a_look_at_one_module() -> None:
    net = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))

    assert [one.name for one in Looking(net, Look(PARAMETER, KEPT, "net.1")).seen(nothing)] == [
        "net.1.weight", "net.1.bias",
    ]  # fmt: skip


def gradients(net: nn.Module, make: Callable[[torch.Tensor], torch.Tensor | None]) -> None:
    for parameter in net.parameters():
        parameter.grad = make(parameter)


@pytest.mark.parametrize("size", [3, LARGE])
@pytest.mark.parametrize("exact", [False, True])
def test_gradients_that_come_and_go(size: int, exact: bool) -> None:
    net = One(size, size)
    tos = (SET, CHANGED, ZERO_OR_NONE, FINITE)
    looking = Looking(net, *[Look(GRADIENT, to, exact=exact) for to in tos])

    def facts(make: Callable[[torch.Tensor], torch.Tensor | None]) -> list[bool | None]:
        [one] = looking.seen(lambda: gradients(net, make))
        return [one.holds(to) for to in tos]

    assert facts(lambda one: None) == [False, False, True, True]
    assert facts(torch.ones_like) == [True, True, False, True]
    assert facts(lambda one: torch.full_like(one, float("nan"))) == [True, True, False, False]
    assert facts(torch.zeros_like) == [True, True, True, True]
    assert facts(lambda one: -torch.zeros_like(one)) == [True, True, True, True]
    assert facts(lambda one: None) == [False, True, True, True]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64, torch.complex64])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_single_element_that_is_not_finite(dtype: torch.dtype, value: float) -> None:
    net = One()
    looking = Looking(net, Look(GRADIENT, FINITE))
    gradient = torch.randn(4, 4).to(dtype)
    gradient[3, 2] = value
    net.weight = nn.Parameter(torch.ones(4, 4, dtype=dtype))

    assert looking.facts(FINITE, lambda: gradients(net, lambda one: gradient)) == {"weight": False}
    gradient[3, 2] = torch.finfo(torch.float16).max if dtype != torch.bfloat16 else 3e38
    assert looking.facts(FINITE, nothing) == {"weight": True}


def test_a_sample_reads_whole_elements() -> None:
    """A float of these bits, read from amidst two of them, would be a NaN."""
    net = One(LARGE, LARGE)
    bits = torch.full((LARGE, LARGE), 0x3FFFFFFF, dtype=torch.int32).view(torch.float32)

    assert Looking(net, Look(GRADIENT, FINITE)).facts(
        FINITE, lambda: gradients(net, lambda one: bits)
    ) == {"weight": True}


def test_sparse_and_strided_gradients_are_read_whole() -> None:
    net = One(50, 4)
    looking = Looking(net, *[Look(GRADIENT, to) for to in (CHANGED, ZERO_OR_NONE, FINITE)])
    sparse = torch.sparse_coo_tensor(
        torch.tensor([[3, 5]]), torch.ones(2, 4), (50, 4), check_invariants=False
    )
    wide = torch.zeros(50, 8)[:, ::2]

    def facts(make: Callable[[torch.Tensor], torch.Tensor]) -> Sequence[bool | None]:
        return looking.seen(lambda: gradients(net, make))[0][4:]

    assert facts(lambda one: sparse) == (True, False, True)
    assert facts(lambda one: sparse) == (False, False, True)
    assert facts(lambda one: sparse * 2) == (True, False, True)
    assert facts(lambda one: sparse * float("inf")) == (True, False, False)
    assert facts(lambda one: wide) == (True, True, True)
    assert facts(lambda one: wide) == (False, True, True)
    assert facts(lambda one: torch.ones(50, 8)[:, ::2]) == (True, False, True)


def test_parameters_that_move_or_are_not_there_yet() -> None:
    net = nn.Sequential(nn.LazyLinear(3))
    looking = Looking(net, Look(PARAMETER, CHANGED))
    first = looking.facts(CHANGED, lambda: net(torch.ones(1, 2)))
    linear: Any = net[0]

    def moved() -> None:
        linear.weight = nn.Parameter(linear.weight.detach() + 1)

    assert first == {"weight": None, "bias": None}
    assert looking.facts(CHANGED, moved) == {"weight": True, "bias": False}
    assert looking.facts(CHANGED, lambda: linear.weight.data.add_(1))["weight"] is True
    assert looking.facts(CHANGED, lambda: linear.double()) == {"weight": True, "bias": True}


def test_tensors_without_elements_at_hand_stay_undecided() -> None:
    net = One()
    looking = Looking(net, Look(PARAMETER, CHANGED))

    def freed() -> None:
        net.weight.untyped_storage().resize_(0)

    assert looking.facts(CHANGED, freed) == {"weight": None}
    assert looking.facts(CHANGED, nothing) == {"weight": None}


def unsampled(net: nn.Module) -> tuple[int, int]:
    """A place of its large weight that no sample reads."""
    return next(
        (row, 7)
        for row in range(LARGE)
        if _same_sample(net.weight.detach(), (row, 7))  # type: ignore[operator]
    )


def _same_sample(tensor: torch.Tensor, place: tuple[int, int]) -> bool:
    reading, changed = contents.Contents(), tensor.clone()
    changed[place] += 1
    return bool(reading.sample(tensor) == reading.sample(changed))


def test_an_infinite_element_is_found_at_once_where_all_is_read() -> None:
    net = One(LARGE, LARGE)
    looking = Looking(net, Look(PARAMETER, FINITE, whole=True))
    place = unsampled(net)

    def poison() -> None:
        net.weight.data[place] = float("inf")

    assert looking.facts(FINITE, nothing) == {"weight": True}
    assert looking.facts(FINITE, poison) == {"weight": False}


def test_an_infinite_element_that_no_sample_reads_is_found_within_sixteen_calls() -> None:
    net = One(LARGE, LARGE)
    looking = Looking(net, Look(PARAMETER, FINITE))
    net.weight.data[unsampled(net)] = float("inf")

    seen = [looking.facts(FINITE, nothing)["weight"] for _ in range(WHOLE_EVERY)]

    assert seen.count(False) == 1


def test_a_large_gradient_that_is_not_zero_is_seen_by_its_sample() -> None:
    net = One(LARGE, LARGE)
    looking = Looking(net, Look(GRADIENT, ZERO_OR_NONE))

    def set_to(value: float) -> None:
        net.weight.grad = torch.full((LARGE, LARGE), value)

    told = [looking.facts(ZERO_OR_NONE, partial(set_to, one))["weight"] for one in (0.0, 1.0, -0.0)]
    assert told == [True, False, True]


# ---------------------------------------------------------------- accelerators


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Tensors are taken for an accelerator's; kept is how many facts each fetch fetched."""
    fetches: list[int] = []
    fetched = contents.fetched

    def counted(facts: Sequence[object]) -> list[bool | None]:
        fetches.append(sum(isinstance(one, torch.Tensor) for one in facts))
        return fetched(facts)

    monkeypatch.setattr(contents, "is_on_host", lambda tensor: False)
    monkeypatch.setattr(contents, "fetched", counted)
    return fetches


def test_nothing_waits_for_a_device_before_the_step_ends(device: list[int]) -> None:
    net = One(LARGE, LARGE)
    looking = Looking(net, Look(PARAMETER, CHANGED))
    call = Call(OPTIMIZER_STEP, 0, 1, None, 0)
    looking._around.begin(call, None, Moment())
    raw = looking._around.end(call, Moment())

    assert device == []
    assert all(isinstance(one, Unsettled) for one in raw)
    [one] = settled(raw)
    assert (one.changed, len(device)) == (False, 1)


@pytest.mark.parametrize(("done", "seen"), SEEN_OF_A_LARGE_ONE)
def test_on_a_device_the_same_is_seen(
    device: list[int], done: list[Callable[[One], None]], seen: list[bool | None]
) -> None:
    looking = Looking(net := One(LARGE, LARGE), Look(PARAMETER, CHANGED))

    assert [looking.facts(CHANGED, partial(how, net))["weight"] for how in done] == seen


@pytest.mark.parametrize("size", [3, LARGE])
@pytest.mark.parametrize("exact", [False, True])
def test_gradients_on_a_device(device: list[int], size: int, exact: bool) -> None:
    test_gradients_that_come_and_go(size, exact)
