"""Changes: what training does to variables is learned, and what a mistake does not is found."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from tests.check.training import Program, check, first, learn, words
from torch import nn

from remora.check.calls import OPTIMIZER_STEP, Call
from remora.check.checker import Checker, Finding
from remora.check.invariants import Invariant
from remora.check.observation import Observation
from remora.check.relations.changes import Changes
from remora.check.relations.modules import largest_modules

STEPS = 8


def model() -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2))


def train(
    make: Callable[[Any], torch.optim.Optimizer] = torch.optim.SGD,
    *,
    of: Callable[[nn.Module], nn.Module] = lambda module: module,
    prepare: Callable[[nn.Module, int], object] = lambda module, step: None,
    accumulate: int = 1,
    clear: Callable[[int], bool] = lambda step: True,
    **options: Any,
) -> Program:
    """A loop of :data:`STEPS` steps. ``of`` gives the model that the optimizer is made for."""

    def program() -> None:
        net = model()
        prepare(net, -1)
        trained = of(net)
        optimizer = make(trained.parameters(), lr=0.1, **options)  # type: ignore[call-arg]
        for step in range(STEPS):
            prepare(net, step)
            for _ in range(accumulate):
                net(torch.randn(3, 4, requires_grad=True)).square().mean().backward()
            optimizer.step()
            if clear(step):
                optimizer.zero_grad()

    return program


OF_STATE = {"Optimizer.step changes every optimizer state"}
HEALTHY = {
    "Optimizer.step changes every parameter",
    "Optimizer.step leaves every parameter finite",
    "Tensor.backward changes every gradient",
    "Tensor.backward leaves every gradient finite",
    "Optimizer.zero_grad leaves every gradient zero or none",
}


@pytest.mark.parametrize(
    ("make", "options", "has_state"),
    [
        (torch.optim.SGD, {}, False),
        (torch.optim.SGD, {"momentum": 0.9, "nesterov": True}, True),
        (torch.optim.AdamW, {"fused": True}, True),
        (torch.optim.AdamW, {"foreach": True}, True),
        (torch.optim.AdamW, {"foreach": False, "fused": False}, True),
        (torch.optim.Adadelta, {}, True),
    ],
    ids=["sgd", "momentum", "fused", "foreach", "for-loop", "adadelta"],
)
def test_healthy_training_with_any_optimizer(
    make: Any, options: dict[str, Any], has_state: bool
) -> None:
    invariants = learn(train(make, **options))

    assert words(invariants) == HEALTHY | (OF_STATE if has_state else set())
    assert check(invariants, train(make, **options)) == []
    assert check(invariants, train()) == []  # of Adam learned, of SGD checked


@pytest.mark.slow
def test_an_optimizer_of_a_copy_is_found_at_the_first_step() -> None:
    found = check(learn(train()), train(of=copy.deepcopy))

    one = first(found, "Optimizer.step changes every parameter")
    assert one.step == 0
    assert one.seen == "net.0.weight, net.0.bias, net.2.weight and 5 more are unchanged"


def test_everything_frozen_is_found_at_the_step_at_which_it_froze() -> None:
    def freeze(net: nn.Module, step: int) -> None:
        if step == 5:
            net.requires_grad_(False)

    found = check(learn(train()), train(prepare=freeze))

    assert {one.step for one in found} == {5, 6, 7}


@pytest.mark.slow
def test_gradients_that_nobody_clears_are_not_called_cleared() -> None:
    def of_one_layer_only() -> None:
        net = model()
        optimizer = torch.optim.SGD(net[0].parameters(), lr=0.1)  # not of net[2]
        for _ in range(STEPS):
            net(torch.randn(3, 4)).square().mean().backward()
            optimizer.step()
            optimizer.zero_grad()

    one = first(check(learn(train()), of_one_layer_only), "zero_grad")
    assert one.seen == "net.2.weight, net.2.bias are neither zero nor None"


def frozen(net: nn.Module, step: int) -> None:
    if step == -1:
        net[0].requires_grad_(False)  # type: ignore[index]


@pytest.mark.slow
def test_frozen_layers_are_told_by_condition_and_by_name() -> None:
    invariants = learn(train(prepare=frozen))

    assert {
        "Optimizer.step changes every parameter when variable.requires_grad is True and "
        "variable.has_grad is True",
        "Optimizer.step keeps every parameter of net.0",
        "Optimizer.step changes every parameter of net.2",
        "Optimizer.step changes some parameter",
    } <= words(invariants)
    assert check(invariants, train(prepare=frozen)) == []


@pytest.mark.slow
def test_a_layer_that_was_frozen_and_is_not_any_more_is_found_by_name() -> None:
    def thaws(net: nn.Module, step: int) -> None:
        frozen(net, step)
        if step == 4:
            net.requires_grad_(True)

    found = check(learn(train(prepare=frozen)), train(prepare=thaws))

    assert first(found, "step keeps every parameter of net.0").step == 4
    assert {one.step for one in found} == {4, 5, 6, 7}


@pytest.mark.slow
def test_the_optimizer_of_another_model_is_found_though_layers_were_frozen() -> None:
    """accelerate-2665: a condition on what is trained is not met, so nothing else tells."""
    found = check(learn(train(prepare=frozen)), train(prepare=frozen, of=copy.deepcopy))

    assert first(found, "step changes some parameter").step == 0


@pytest.mark.slow
def test_a_step_without_a_learning_rate_is_told_apart() -> None:
    def program(rate_of: Callable[[int], float]) -> Program:
        def run() -> None:
            net = model()
            optimizer = torch.optim.AdamW(net.parameters(), lr=rate_of(0))
            for step in range(STEPS):
                optimizer.param_groups[0]["lr"] = rate_of(step)
                net(torch.randn(3, 4)).square().mean().backward()
                optimizer.step()
                optimizer.zero_grad()

        return run

    warm_up = learn(program(lambda step: 0.1 * min(step, 3)), program(lambda step: 0.1 * max(
        0, step - 2)))  # fmt: skip

    assert "Optimizer.step changes every parameter when variable.still is False" in words(warm_up)
    assert check(warm_up, program(lambda step: 0.1 * step)) == []
    assert check(learn(train()), program(lambda step: 0.0))[0].step == 0


def gan(steps: Callable[[int], tuple[str, ...]] = lambda step: ("d", "g")) -> Program:
    def program() -> None:
        nets = {"d": nn.Linear(4, 1), "g": nn.Linear(2, 4)}
        d, g = nets["d"], nets["g"]
        both = {k: torch.optim.SGD(nets[k].parameters(), lr=0.1, momentum=0.9) for k in "dg"}
        d(g(torch.randn(3, 2)))
        for step in range(STEPS):
            for key in steps(step):
                both[key].zero_grad()
                d(g(torch.randn(3, 2))).square().mean().backward()
                both[key].step()

    return program


@pytest.mark.slow
def test_two_optimizers_change_their_own_and_keep_the_others() -> None:
    invariants = learn(gan())

    assert {
        "Optimizer.step changes every parameter when variable.own is True",
        "Optimizer.step keeps every parameter when variable.own is False",
        "Optimizer.zero_grad leaves every gradient zero or none when "
        "(variable.has_grad is False) or (variable.own is True)",
    } <= words(invariants)
    assert check(invariants, gan()) == []


@pytest.mark.slow
def test_what_one_optimizer_was_learned_to_do_another_does_to_its_own() -> None:
    invariants = learn(train())
    findings = check(invariants, gan())

    of_optimizers = [one for one in invariants if "Optimizer" in one.words()]
    assert len(of_optimizers) == 3
    assert not any(one.invariant in of_optimizers for one in findings)
    found = first(check(invariants, stale), "Optimizer.step changes every parameter")
    assert found.step == 0


def stale() -> None:
    """Two optimizers, one of them of a copy of its model."""
    nets = [nn.Linear(4, 1), nn.Linear(4, 1)]
    of = [nets[0], copy.deepcopy(nets[1])]
    both = [torch.optim.SGD(one.parameters(), lr=0.1) for one in of]
    for _ in range(STEPS):
        for net, optimizer in zip(nets, both, strict=True):
            optimizer.zero_grad()
            net(torch.randn(3, 4)).square().mean().backward()
            optimizer.step()


@pytest.mark.slow
def test_what_is_said_of_buffers_is_said_with_whose_they_are() -> None:
    class Positions(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("waves", torch.randn(4))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + self.get_buffer("waves")

    def program(layer: nn.Module) -> Program:
        def run() -> None:
            net = nn.Sequential(nn.Linear(4, 4), layer, nn.Tanh(), nn.Linear(4, 1))
            optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
            for _ in range(STEPS):
                optimizer.zero_grad()
                net(torch.randn(3, 4)).square().sum().backward()
                optimizer.step()

        return run

    kept, moved = learn(program(Positions())), learn(program(nn.BatchNorm1d(4)))

    owner = "every buffer when phase is 'train' and variable.owner is"
    assert f"Module.forward keeps {owner} 'Positions'" in words(kept)
    assert f"Module.forward changes {owner} 'BatchNorm1d'" in words(moved)
    for taught, other in ((kept, nn.BatchNorm1d(4)), (moved, Positions())):
        findings = check(taught, program(other))
        assert not [one for one in findings if "buffer" in one.invariant.words()]


def test_accumulated_gradients_change_at_each_backward() -> None:
    invariants = learn(train(accumulate=4))

    assert words(invariants) == HEALTHY
    assert check(invariants, train(accumulate=2)) == []


@pytest.mark.slow
def test_buffers_change_in_training_and_are_kept_in_evaluation() -> None:
    def program(mode: Callable[[nn.Module, int], object] = lambda net, step: None) -> Program:
        def run() -> None:
            net = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8))
            optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
            for step in range(STEPS):
                net.train()
                mode(net, step)
                optimizer.zero_grad()
                net(torch.randn(3, 4)).square().sum().backward()
                optimizer.step()
                net.eval()
                with torch.no_grad():
                    net(torch.randn(3, 4))

        return run

    invariants = learn(program())
    said = words(invariants)

    assert any(one.startswith("Module.forward changes every buffer when phase is 'train'")
               for one in said)  # fmt: skip
    assert any(one.startswith("Module.forward keeps every buffer when phase is 'eval'")
               for one in said)  # fmt: skip
    assert check(invariants, program()) == []

    def forgets(net: nn.Module, step: int) -> None:
        if step == 5:
            net[1].eval()  # type: ignore[index]

    assert first(check(invariants, program(forgets)), "forward changes").step == 5


def test_a_gradient_that_is_not_finite_is_found() -> None:
    def poison(net: nn.Module, step: int) -> None:
        if step == 6:
            net[2].weight.data[1, 3] = float("nan")  # type: ignore[index]

    found = check(learn(train()), train(prepare=poison))

    assert first(found, "gradient finite").step == 6
    assert first(found, "parameter finite").step == 6


def test_sparse_gradients() -> None:
    def program() -> None:
        table = nn.Embedding(50, 4, sparse=True)
        optimizer = torch.optim.SparseAdam(list(table.parameters()), lr=0.1)
        for step in range(STEPS):
            optimizer.zero_grad()
            table(torch.tensor([step, step + 1])).square().sum().backward()
            optimizer.step()

    invariants = learn(program)

    assert words(invariants) == HEALTHY | OF_STATE
    assert check(invariants, program) == []


@pytest.mark.filterwarnings("ignore:.*GradScaler is enabled")
def test_a_scaler_that_is_off_and_clipping() -> None:
    def program() -> None:
        net = model()
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
        scaler = torch.amp.GradScaler("cpu", enabled=False)
        for _ in range(STEPS):
            optimizer.zero_grad()
            scaler.scale(net(torch.randn(3, 4)).square().mean()).backward()
            scaler.unscale_(optimizer)
            nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            scaler.step(optimizer)
            scaler.update()

    invariants = learn(program)

    assert words(invariants) >= HEALTHY | {
        "utils.clip_grad_norm_ sets every gradient",
        "utils.clip_grad_norm_ leaves every gradient finite",
        "GradScaler.unscale_ sets every gradient",
    }
    assert check(invariants, program) == []


def told(name: str, changed: bool | None, *, in_use: bool = True) -> Observation:
    return Observation(name, {"variable.kind": "parameter"}, in_use, none=False, changed=changed)


@pytest.mark.parametrize(
    ("every", "seen", "found"),
    [
        (True, [told("a", True), told("b", None)], []),
        (True, [told("a", True), told("b", False)], ["b is unchanged"]),
        (True, [told("a", None), told("b", False)], ["b is unchanged"]),
        (False, [told("a", False), told("b", None)], []),
        (False, [told("a", False), told("b", True)], []),
        (False, [told("a", False), told("b", False)], ["a, b are unchanged"]),
        (False, [told("a", False), told("b", True, in_use=False)], ["a is unchanged"]),
        (False, [told("b", True, in_use=False)], []),
    ],
)
def test_what_is_undecided_is_not_judged(
    every: bool, seen: list[Observation], found: list[str]
) -> None:
    findings: list[Finding] = []
    claim = Changes(OPTIMIZER_STEP, "parameter", "changed", every=every)
    checker = Checker([Invariant(claim=claim)], findings.append)
    checker.changed(Call(OPTIMIZER_STEP, 0, 1, None, 0), seen)

    assert [one.seen for one in findings] == found
    judged = bool(found) or any(one.changed and (every or one.in_use) for one in seen)
    assert checker.rules[0].triggered == int(judged)


def test_the_largest_modules() -> None:
    names = ["m.a.x", "m.a.y", "m.b.x", "m.b.y", "m.c", "n.x"]
    found = dict(largest_modules(names, {"m.a.x", "m.a.y", "m.b.x", "n.x"}))

    assert found == {"m.a": ["m.a.x", "m.a.y"], "m.b.x": ["m.b.x"], "n": ["n.x"]}


def test_what_happened_once_to_many_variables_is_not_learned() -> None:
    def program() -> None:
        net = nn.Sequential(*[nn.Linear(2, 2) for _ in range(20)])
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
        net(torch.randn(3, 2)).sum().backward()
        optimizer.step()

    assert learn(program) == []


@pytest.mark.slow
def test_learning_and_checking_leave_every_number_as_it_is() -> None:
    def trained(run: Callable[[Program], object]) -> list[torch.Tensor]:
        kept: list[torch.Tensor] = []

        def program() -> None:
            torch.manual_seed(3)
            net = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(), nn.Linear(8, 2))
            optimizer = torch.optim.AdamW(net.parameters(), fused=True)
            for step in range(2 * STEPS):
                optimizer.zero_grad(set_to_none=step % 2 == 0)
                net(torch.randn(5, 4)).square().mean().backward()
                optimizer.step()
            kept.extend([*net.state_dict().values(), torch.rand(2), torch.get_rng_state()])

        run(program)
        return kept

    invariants = learn(train())
    alone = trained(lambda program: program())

    for run in (learn, lambda program: check(invariants, program)):
        beside = trained(run)
        assert all(map(torch.equal, alone, beside))
