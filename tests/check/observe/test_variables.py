"""Variables: every one is found and named, whatever the program does to its models meanwhile."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import pytest
import torch
from torch import nn

from remora.check.observation import BUFFER, GRADIENT, KINDS, PARAMETER, STATE
from remora.check.observe.variable import Variable
from remora.check.observe.variables import SCANS_AT_ONCE, Variables
from remora.tap.job import Job
from remora.tap.state import State


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 3)
        self.norm = nn.BatchNorm2d(2)
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.norm(self.conv(images)) * self.scale  # type: ignore[no-any-return]


def names(variables: Variables, kind: str) -> list[str]:
    return [one.name for one in variables.of(kind)]


def one(variables: Variables, kind: str, name: str) -> Variable:
    return next(variable for variable in variables.of(kind) if variable.name == name)


def said(variables: Variables, kind: str, name: str, subject: Any = None) -> dict[str, Any]:
    variable = one(variables, kind, name)
    found = variable.properties(variable.get(), variables.own_of(subject))
    return {key.removeprefix("variable."): value for key, value in found.items()}


@pytest.fixture
def variables() -> Variables:
    return Variables(Job())


@pytest.fixture(autouse=True)
def _nothing_is_left_of_other_tests() -> None:
    gc.collect()


def step(net: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    net(torch.randn(2, 1, 5, 5)).square().sum().backward()
    optimizer.step()


def test_every_kind_by_name(variables: Variables) -> None:
    net = Net()
    optimizer = torch.optim.Adam(net.parameters())
    step(net, optimizer)
    variables.meet(optimizer)

    of_net = ["net.scale", "net.conv.weight", "net.conv.bias", "net.norm.weight", "net.norm.bias"]
    assert names(variables, PARAMETER) == of_net
    assert names(variables, GRADIENT) == of_net
    assert names(variables, BUFFER) == [
        "net.norm.running_mean", "net.norm.running_var", "net.norm.num_batches_tracked",
    ]  # fmt: skip
    assert set(names(variables, STATE)) == {
        f"optimizer.{key}[{name}]" for key in ("step", "exp_avg", "exp_avg_sq") for name in of_net
    }
    assert one(variables, GRADIENT, "net.scale").value() is net.scale.grad


def test_what_conditions_may_rest_on(variables: Variables) -> None:
    net = Net()
    net.conv.bias.requires_grad_(False)  # type: ignore[union-attr]
    groups: list[dict[str, Any]] = [
        {"params": [net.scale], "lr": 0.0}, {"params": [net.conv.weight]},
    ]  # fmt: skip
    optimizer = torch.optim.SGD(groups)
    variables.meet(optimizer)

    weight = {
        "kind": "parameter", "owner": "Conv2d", "attribute": "weight", "dtype": "torch.float32",
        "dimensions": 4, "requires_grad": True, "has_grad": False, "trained": True, "own": None,
        "still": False,
    }  # fmt: skip
    assert said(variables, PARAMETER, "net.conv.weight") == weight
    assert said(variables, PARAMETER, "net.conv.weight", optimizer) == {**weight, "own": True}
    bias = said(variables, PARAMETER, "net.conv.bias", optimizer)
    assert (bias["requires_grad"], bias["trained"], bias["own"]) == (False, False, False)
    assert said(variables, PARAMETER, "net.scale")["still"] is True
    assert said(variables, BUFFER, "net.norm.running_mean", net) == {
        "kind": "buffer", "owner": "BatchNorm2d", "attribute": "running_mean",
        "dtype": "torch.float32", "dimensions": 1, "own": True, "training": True,
    }  # fmt: skip


def test_equal_properties_are_one_object(variables: Variables) -> None:
    net = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    variables.ran(net)

    found = [x.properties(x.get(), None) for x in variables.of(PARAMETER)]
    assert found[0] is found[2]
    assert found[0] is not found[1]


def test_what_is_no_modules_own_is_named_by_its_optimizer(variables: Variables) -> None:
    bare = nn.Parameter(torch.ones(3))
    optimizer = torch.optim.SGD([bare], lr=0.1, momentum=0.9)
    bare.sum().backward()
    optimizer.step()
    variables.meet(optimizer)

    assert names(variables, PARAMETER) == ["optimizer.param_groups[0].params[0]"]
    [state] = names(variables, STATE)
    assert state == "optimizer.momentum_buffer[optimizer.param_groups[0].params[0]]"


def test_a_replaced_parameter_is_read_where_it_was(variables: Variables) -> None:
    net = nn.Linear(2, 2)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    variables.meet(optimizer)
    weight = one(variables, PARAMETER, "net.weight")
    net.weight = nn.Parameter(torch.zeros(2, 2))

    assert weight.get() is net.weight
    assert weight.properties(weight.get(), variables.own_of(optimizer))["variable.own"] is False


def test_tied_parameters_are_one_with_two_places(variables: Variables) -> None:
    net = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    net[1].weight = net[0].weight
    variables.ran(net)

    assert names(variables, PARAMETER) == ["net.0.weight", "net.0.bias", "net.1.bias"]
    assert "net.1.weight" in [place.name for place in variables.places(PARAMETER)]


def test_what_is_gone_is_gone_and_is_not_kept_alive(variables: Variables) -> None:
    net = nn.Linear(2, 2)
    optimizer = torch.optim.Adam(net.parameters())
    net(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    variables.ran(net)
    variables.meet(optimizer)
    held = [found for kind in KINDS for found in variables.of(kind)]
    parameter = weakref.ref(net.weight)
    del net, optimizer
    gc.collect()

    assert parameter() is None
    assert [found.get() for found in held] == [None] * len(held)
    variables.meet(None)
    assert names(variables, PARAMETER) == []


def test_what_awaits_the_garbage_collector_is_no_variable(variables: Variables) -> None:
    def leave_behind() -> None:
        circle: list[Any] = [nn.Linear(3, 3)]
        circle.append(circle)

    net = nn.Linear(2, 2)
    gc.disable()
    try:
        leave_behind()
        variables.ran(net)
        assert names(variables, PARAMETER) == ["net.weight", "net.bias"]
    finally:
        gc.enable()


def test_a_model_without_a_name_counts_once_it_runs(variables: Variables) -> None:
    def circle() -> Any:
        kept: list[Any] = [nn.Linear(3, 3)]
        kept.append(kept)
        return weakref.ref(kept[0])

    gc.disable()
    try:
        nameless = circle()
        variables.ran(nameless())
        assert len(names(variables, PARAMETER)) == 2
    finally:
        gc.enable()


def test_a_deleted_parameter_reads_as_none(variables: Variables) -> None:
    net = nn.Linear(2, 2)
    variables.ran(net)
    bias = one(variables, PARAMETER, "net.bias")
    del net.bias

    assert bias.get() is None


def test_models_and_optimizers_that_come_late(variables: Variables) -> None:
    first = nn.Linear(2, 2)
    variables.ran(first)
    second = nn.Linear(3, 3)
    optimizer = torch.optim.SGD(second.parameters(), lr=0.1)

    variables.ran(second)
    variables.meet(optimizer)
    assert set(names(variables, PARAMETER)) == {
        "first.weight", "first.bias", "second.weight", "second.bias",
    }  # fmt: skip
    assert said(variables, PARAMETER, "second.weight", optimizer)["own"] is True
    assert said(variables, PARAMETER, "first.weight", optimizer)["own"] is False


def test_a_module_added_to_a_known_model_is_listed_after_a_few_steps(variables: Variables) -> None:
    net = nn.Sequential(nn.Linear(2, 2))
    variables.ran(net)
    net.append(nn.Linear(2, 2, bias=False))
    before = variables.version
    for _ in range(4):
        variables.step_ended()

    assert variables.version == before + 3  # after the steps 1, 2 and 4

    assert "net.1.weight" in names(variables, PARAMETER)


def test_a_wrapper_is_not_in_the_name(variables: Variables) -> None:
    net = nn.DataParallel(nn.Linear(2, 2))
    variables.ran(net)

    assert names(variables, PARAMETER) == ["net.weight", "net.bias"]
    assert all(found.in_use for found in variables.of(PARAMETER))


def test_only_models_that_ran_are_in_use(variables: Variables) -> None:
    ran, idle = nn.Linear(2, 2), nn.Linear(2, 2)
    variables.ran(ran)

    assert {found.name: found.in_use for found in variables.of(PARAMETER)} == {
        "ran.weight": True, "ran.bias": True, "idle.weight": False, "idle.bias": False,
    }  # fmt: skip
    assert idle is not ran


def test_lazy_modules_before_and_after_they_know_their_size(variables: Variables) -> None:
    net = nn.Sequential(nn.LazyLinear(3))
    variables.ran(net)
    assert said(variables, PARAMETER, "net.0.weight")["dimensions"] is None
    net(torch.ones(2, 5))
    variables.step_ended()

    assert said(variables, PARAMETER, "net.0.weight")["dimensions"] == 2
    assert said(variables, PARAMETER, "net.0.weight")["owner"] == "Linear"


def test_groups_added_and_rates_that_become_0_are_noticed(variables: Variables) -> None:
    net = nn.Linear(2, 2)
    optimizer = torch.optim.SGD([net.weight], lr=0.1)
    variables.meet(optimizer)
    assert said(variables, PARAMETER, "net.bias")["trained"] is False
    optimizer.add_param_group({"params": [net.bias], "lr": 0.0})
    variables.meet(optimizer)

    assert said(variables, PARAMETER, "net.bias")["trained"] is True
    assert said(variables, PARAMETER, "net.bias")["still"] is True
    optimizer.param_groups[1]["lr"] = 0.1
    variables.meet(optimizer)
    assert said(variables, PARAMETER, "net.bias")["still"] is False


@pytest.mark.slow
def test_scans_are_few(variables: Variables, monkeypatch: pytest.MonkeyPatch) -> None:
    scans = []
    find = State.find

    def counted(self: State) -> Any:
        scans.append(1)
        return find(self)

    monkeypatch.setattr(State, "find", counted)
    net = nn.Linear(2, 2)
    for _ in range(100):
        variables.ran(net)
        variables.ran(nn.MSELoss())
        variables.step_ended()
    assert len(scans) == 1

    fresh = [nn.Linear(2, 2) for _ in range(100)]
    for position, module in enumerate(fresh):  # a model of its own every step, not found before
        variables._models.clear()
        variables.ran(module)
        if position % 2:
            variables.step_ended()
    assert SCANS_AT_ONCE < len(scans) < SCANS_AT_ONCE + 10
