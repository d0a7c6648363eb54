"""What is read in rows tells the same as what is read tensor by tensor."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from remora.check.calls import OPTIMIZER_STEP, Call
from remora.check.observation import (
    BUFFER,
    CHANGED,
    FINITE,
    GRADIENT,
    PARAMETER,
    SET,
    ZERO_OR_NONE,
    Alike,
    Look,
    Observation,
)
from remora.check.observe.around import Around, settled
from remora.check.observe.compared import Compared, standing_for
from remora.check.observe.moment import Moment
from remora.check.observe.rows import fits
from remora.check.observe.variables import Variables
from remora.tap.job import Job

LARGE = 300
LOOKS = (
    (Look(PARAMETER, CHANGED), Look(PARAMETER, FINITE, whole=True)),
    (Look(GRADIENT, CHANGED), Look(GRADIENT, FINITE, whole=True), Look(GRADIENT, SET)),
    (Look(GRADIENT, ZERO_OR_NONE, whole=True),),
    (Look(BUFFER, CHANGED), Look(PARAMETER, CHANGED, concerns=lambda one: one["variable.own"])),
)


class Net(nn.Module):
    """Some of everything."""

    def __init__(self) -> None:
        super().__init__()
        self.scalar = nn.Parameter(torch.ones(()))
        self.small = nn.Parameter(torch.ones(3, 5))
        self.large = nn.Parameter(torch.ones(LARGE, LARGE))
        self.wide = nn.Parameter(torch.ones(2, LARGE * LARGE))
        self.frozen = nn.Parameter(torch.ones(7), requires_grad=False)
        self.precise = nn.Parameter(torch.ones(4, dtype=torch.float64))
        self.more = nn.Parameter(torch.ones(4, dtype=torch.float64))
        self.coarse = nn.Parameter(torch.ones(4, dtype=torch.bfloat16))
        self.register_buffer("mean", torch.zeros(4))
        self.register_buffer("scale", torch.ones(4))
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))
        self.register_buffer("counts", torch.zeros(3, dtype=torch.int64))


def tensors_of(net: Net) -> list[torch.Tensor]:
    return [*net.parameters(), *net.buffers()]


def write(net: Net, which: int, element: int, value: float) -> None:
    tensor = tensors_of(net)[which % 12].detach().reshape(-1)
    if math.isfinite(value) or tensor.is_floating_point():
        tensor[element % tensor.numel()] = value


def write_gradient(net: Net, which: int, element: int, value: float) -> None:
    tensor = list(net.parameters())[which % 8].grad
    if tensor is not None:
        tensor.reshape(-1)[element % tensor.numel()] = value


def add_everywhere(net: Net, *_: object) -> None:
    for one in tensors_of(net):
        one.data.add_(1)


def set_gradients(net: Net, which: int, element: int, value: float) -> None:
    for index, one in enumerate(net.parameters()):
        if one.requires_grad and index != which:
            one.grad = torch.full_like(one, 2.0)


def zero_gradients(net: Net, which: int, *_: object) -> None:
    net.zero_grad(set_to_none=which % 2 == 0)


def replace(net: Net, which: int, *_: object) -> None:
    one = list(net.parameters())[which % 8]
    one.data = one.data.clone()


def narrow(net: Net, which: int, *_: object) -> None:
    """Of another size. Its gradient, which would be of the old one, goes."""
    one = (net.small, net.large)[which % 2]
    one.grad = None
    one.data = one.data[:2].clone()


OPERATIONS: tuple[Callable[..., None], ...] = (
    write, write_gradient, add_everywhere, set_gradients, zero_gradients, replace, narrow,
)  # fmt: skip
Operation = tuple[Callable[..., None], int, int, float]
operations = st.lists(
    st.tuples(
        st.sampled_from(OPERATIONS),
        st.integers(0, 11),
        st.integers(0, 200_000),
        st.sampled_from([0.0, 3.0, float("inf"), float("nan")]),
    ),
    max_size=12,
)


def job_of(net: Net) -> Any:
    """A job in which ``net`` is found without a look at every object there is."""
    found = SimpleNamespace(models=[SimpleNamespace(module=net, name="net")], optimizers=[])
    return SimpleNamespace(state=SimpleNamespace(find=lambda: found))


def facts(seen: object) -> dict[str, Observation]:
    found = settled(seen)  # type: ignore[arg-type]
    return {f"{one.properties['variable.kind']} {one.name}": one for one in found}


def bits(tensor: torch.Tensor) -> bytes:
    return tensor.reshape(-1).view(torch.uint8).numpy().tobytes()


def contents(net: Net) -> dict[str, torch.Tensor | None]:
    """By kind and name, copies."""
    found: dict[str, torch.Tensor | None] = {}
    for name, one in net.named_parameters():
        found[f"parameter net.{name}"] = one.detach().clone()
        found[f"gradient net.{name}"] = one.grad.clone() if one.grad is not None else None
    return found | {f"buffer net.{name}": one.clone() for name, one in net.named_buffers()}


def same(one: torch.Tensor | None, other: torch.Tensor | None) -> bool:
    if one is None or other is None:
        return one is other
    return one.shape == other.shape and bits(one) == bits(other)


@pytest.mark.parametrize("looks", LOOKS)
@settings(deadline=None, max_examples=60)
@given(done=operations)
def test_it_tells_what_is_told_of_each_alone(
    looks: tuple[Look, ...], done: list[Operation]
) -> None:
    net = Net()
    together, alone = Variables(job_of(net)), Variables(job_of(net))
    alone.rows = lambda kind: []  # type: ignore[method-assign]
    around = []
    for variables in (together, alone):
        variables.ran(net)
        around.append(Around(variables, looks))

    for order, (operation, *how) in enumerate(done):
        call = Call(OPTIMIZER_STEP, order, 1, None, 0)
        for one in around:
            one.begin(call, net, Moment())
        before = contents(net)
        operation(net, *how)
        after = contents(net)
        first, second = (facts(one.end(call, Moment())) for one in around)
        assert first.keys() == second.keys()
        for name, seen in first.items():
            by_sample = "large" in name or "wide" in name
            changed = [not same(before[name], after[name]), *([None] if by_sample else [])]
            assert seen.changed in changed or not any(look.to == CHANGED for look in looks)
            assert seen._replace(changed=None) == second[name]._replace(changed=None)


def test_rows_are_read_of_most() -> None:
    """Else the other test is of nothing."""
    net, variables = Net(), Variables(Job())
    variables.ran(net)
    read = {
        one.name.rpartition(".")[2] for rows in variables.rows(PARAMETER) for one in rows.variables
    }

    assert read == {"scalar", "small", "large", "wide", "frozen", "precise", "more"}


class Looking:
    def __init__(self, net: nn.Module, *looks: Look) -> None:
        self.variables = Variables(Job())
        self.variables.ran(net)
        self._around, self._order = Around(self.variables, looks), itertools.count()

    def seen(self, operation: Callable[[], object]) -> object:
        call = Call(OPTIMIZER_STEP, next(self._order), 1, None, 0)
        self._around.begin(call, None, Moment())
        operation()
        return self._around.end(call, Moment())


def test_where_all_is_as_before_the_very_same_is_seen() -> None:
    net = nn.Linear(4, 4)
    looking = Looking(net, Look(PARAMETER, CHANGED))
    first = looking.seen(partial(add_one, net))

    assert type(first) is Alike
    assert looking.seen(partial(add_one, net)) is first
    assert looking.seen(lambda: None) is not first


def test_what_cannot_be_read_in_a_row_any_more_is_left_apart() -> None:
    net = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    looking = Looking(net, Look(PARAMETER, CHANGED))

    def narrow() -> None:
        add_one(net)
        net[0].weight.data = net[0].weight.data.bfloat16()

    def changed(operation: Callable[[], object]) -> set[bool | None]:
        return {one.changed for one in facts(looking.seen(operation)).values()}

    assert changed(partial(add_one, net)) == {True}
    assert changed(narrow) == {True}
    assert [len(one.variables) for one in looking.variables.rows(PARAMETER)] == [3]
    assert changed(partial(add_one, net)) == {True}
    assert changed(lambda: None) == {False}


def test_sparse_and_empty_tensors_fit_no_row() -> None:
    assert fits(torch.ones(2))
    for one in (torch.ones(2).to_sparse(), torch.ones(0), torch.ones(3, 2).t(), None, "a"):
        assert not fits(one)


def add_one(net: nn.Module) -> None:
    for one in net.parameters():
        one.data.add_(1)


def test_what_stands_for_contents_is_the_same_however_it_is_read() -> None:
    """Ranks may differ in what they read in rows."""
    net = Net()
    variables = Variables(job_of(net))
    variables.ran(net)
    every = [one for kind in (PARAMETER, BUFFER) for one in variables.places(kind)]

    assert Compared(every).sampled(whole=False) == standing_for(every, sample=True, whole=False)
    assert "net.large" in Compared(every).sampled(whole=False)
    assert "net.scalar" not in Compared(every).sampled(whole=False)
