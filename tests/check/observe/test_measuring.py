"""Numbers that are measured at calls: against a reference, and not where nobody wants them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from tests.check.training import Program, ride
from torch import nn

from remora.check.calls import MODEL_FORWARD, OPTIMIZER_STEP, Call
from remora.check.measures import SCALER_UPDATE, SCHEDULER_STEP
from remora.check.observation import FINITE, GRADIENT, Look
from remora.check.observe.samples import MOST_ELEMENTS
from remora.check.sink import Sink, Wanted

Numbers = list[Mapping[str, float]]


class Measured(Sink):
    """Keeps the numbers of one function's calls."""

    def __init__(self, function: str, *wanted: str) -> None:
        self.function, self._wanted = function, frozenset(wanted)
        self.numbers: Numbers = []

    def wanted(self, function: str) -> Wanted:
        return Wanted()

    def begin(self, call: Call) -> None: ...

    def end(self, call: Call) -> None: ...

    def step_ended(self, step: int) -> None: ...

    def measures(self, function: str) -> frozenset[str]:
        return self._wanted if function == self.function else frozenset()

    def measured(self, call: Call, numbers: Mapping[str, float]) -> None:
        assert call.function == self.function
        self.numbers.append(numbers)


def measured(program: Program, function: str = OPTIMIZER_STEP, *wanted: str) -> Numbers:
    sink = Measured(function, *(wanted or ("*",)))
    ride(sink, program)
    return sink.numbers


def one_step(
    parameters: list[torch.Tensor],
    gradients: list[torch.Tensor | None],
    make: Callable[..., torch.optim.Optimizer] = torch.optim.SGD,
) -> Program:
    def program() -> None:
        trained = [nn.Parameter(one.clone()) for one in parameters]
        for one, gradient in zip(trained, gradients, strict=True):
            one.grad = gradient
        make(trained, lr=0.5).step()

    return program


def test_norms_of_a_step() -> None:
    parameters = [torch.randn(3, 4), torch.randn(5)]
    gradients: list[torch.Tensor | None] = [torch.randn(3, 4), torch.randn(5)]
    [found] = measured(one_step(parameters, gradients))

    flat = torch.cat([one.reshape(-1) for one in gradients if one is not None])
    after = torch.cat([one.reshape(-1) for one in parameters]) - 0.5 * flat
    assert found == pytest.approx({
        "gradient norm": float(flat.norm()),
        "parameter norm": float(after.norm()),
        "update ratio": float(0.5 * flat.norm() / after.norm()),
        "share of zero gradients": 0.0,
        "learning rate of group 0": 0.5,
    }, rel=1e-5)  # fmt: skip


@pytest.mark.slow
def test_a_large_tensor_is_measured_by_a_part_of_it() -> None:
    size = MOST_ELEMENTS * 50 + 7
    large = torch.randn(size, generator=torch.Generator().manual_seed(0))
    [found] = measured(one_step([large], [large * 3]))
    assert found["gradient norm"] == pytest.approx(float(large.norm()) * 3, rel=0.05)
    assert found["update ratio"] == pytest.approx(3, rel=1e-4)

    images = torch.randn(64, 32, 16, 16).to(memory_format=torch.channels_last)
    [found] = measured(one_step([images], [images]))
    assert found["gradient norm"] == pytest.approx(float(images.norm()), rel=0.1)


def embedding(seen: list[float], clip: float = 0.0) -> Program:
    """Of 5,000 rows two have a gradient in a step; the norm of all is put into ``seen``."""

    def program() -> None:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Embedding(5000, 16), nn.Linear(16, 4))
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for step in range(6):
            optimizer.zero_grad()
            model(torch.tensor([step * 700, 3])).pow(2).sum().backward()
            if clip:
                nn.utils.clip_grad_norm_(model.parameters(), clip)
            each = [one.grad.norm() for one in model.parameters() if one.grad is not None]
            seen.append(float(torch.stack(each).norm()))
            optimizer.step()

    return program


@pytest.mark.parametrize("clip", [0.0, 0.01])
@pytest.mark.parametrize("looks", [False, True], ids=["numbers alone", "read by others too"])
def test_the_norm_of_a_gradient_of_few_rows_is_no_estimate(clip: float, looks: bool) -> None:
    sink, seen = Measured(OPTIMIZER_STEP, "gradient norm"), list[float]()
    if looks:
        finite = Look(GRADIENT, FINITE, whole=True)
        sink.looks = lambda name: (finite,) if name == "torch.Tensor.backward" else ()  # type: ignore[method-assign,assignment]
    ride(sink, embedding(seen, clip))

    assert [one["gradient norm"] for one in sink.numbers] == pytest.approx(seen, rel=1e-4)


@pytest.mark.slow
def test_the_square_of_a_half_overflows_and_its_norm_does_not() -> None:
    for dtype in (torch.float16, torch.bfloat16):
        [found] = measured(one_step([torch.ones(9)], [None]), OPTIMIZER_STEP, "parameter norm")
        assert found == {"parameter norm": 3}
        large = torch.full((9,), 3000, dtype=dtype)
        [found] = measured(one_step([large], [large]), OPTIMIZER_STEP, "gradient norm")
        assert found["gradient norm"] == pytest.approx(9000, rel=0.01)


def test_gradients_that_are_none_or_zero() -> None:
    ones = [torch.ones(4)] * 4
    [found] = measured(one_step(ones, [None, torch.zeros(4), torch.ones(4), None]))
    assert (found["share of zero gradients"], found["gradient norm"]) == (0.75, 2)

    nothing = measured(one_step(ones, [None] * 4), OPTIMIZER_STEP, "gradient norm")
    assert nothing == []


def test_what_is_no_plain_tensor_is_not_measured() -> None:
    sparse = torch.eye(3).to_sparse()
    [found] = measured(one_step([torch.ones(3, 3)], [sparse]))

    assert "gradient norm" not in found
    assert found["parameter norm"] > 0


def model(steps: int = 3) -> Program:
    def program() -> None:
        net = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Linear(3, 2))
        optimizer = torch.optim.Adam(net.parameters())
        scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 2)
        for _ in range(steps):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(net(torch.randn(6, 4)), torch.ones(6).long())
            loss.backward()
            nn.functional.cross_entropy(loss.detach().reshape(1, 1), torch.zeros(1).long())
            optimizer.step()
            scheduler.step()
        net.eval()
        net(torch.randn(6, 4))

    return program


def test_modules_have_norms_of_their_own() -> None:
    for numbers in measured(model()):
        parts = [numbers[f"gradient norm of net.{place}"] for place in range(3)]
        assert numbers["gradient norm"] == pytest.approx(sum(one**2 for one in parts) ** 0.5)


def test_the_loss_that_is_trained_on_is_told() -> None:
    name = "loss of torch.nn.functional.cross_entropy"

    for numbers in measured(model(), OPTIMIZER_STEP, name):
        assert set(numbers) == {name}
        assert numbers[name] > 0  # that of a single class, which needs no gradient, is zero


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (OPTIMIZER_STEP, [{"step": 1.0}] * 3),
        (MODEL_FORWARD, [{"num_batches_tracked": 1.0}] * 3),
        (SCHEDULER_STEP, [{"last_epoch": 1.0}] * 4),
    ],
)
def test_counters_grow(function: str, expected: Numbers) -> None:
    name = next(iter(expected[0]))

    assert measured(model(), function, name) == expected


def test_the_scale_of_a_scaler() -> None:
    def program() -> None:
        scaler = torch.amp.GradScaler("cpu", init_scale=1024.0, growth_interval=2)
        net = nn.Linear(2, 1)
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
        for _ in range(4):
            scaler.scale(net(torch.ones(1, 2)).sum()).backward()
            scaler.step(optimizer)
            scaler.update()

    scales = [one["scale"] for one in measured(program, SCALER_UPDATE)]
    assert scales == [1024, 2048, 2048, 4096]


def test_a_learning_rate_may_be_a_tensor() -> None:
    def make(parameters: Any, lr: float) -> torch.optim.Optimizer:
        return torch.optim.Adam(parameters, lr=torch.tensor(lr))

    name = "learning rate of group 0"
    program = one_step([torch.ones(2)], [torch.ones(2)], make)
    assert measured(program, OPTIMIZER_STEP, name) == [{name: 0.5}]


def test_measuring_leaves_what_is_computed_as_it_is() -> None:
    def trained(program: Callable[[list[Any]], None], sink: Sink | None) -> list[Any]:
        torch.manual_seed(0)
        kept: list[Any] = []
        if sink is None:
            program(kept)
        else:
            ride(sink, lambda: program(kept))
        return kept

    def program(kept: list[Any]) -> None:
        net = nn.Sequential(nn.Linear(8, 200), nn.BatchNorm1d(200), nn.Linear(200, 1))
        optimizer = torch.optim.AdamW(net.parameters())
        for _ in range(5):
            optimizer.zero_grad()
            nn.functional.mse_loss(net(torch.randn(9, 8)), torch.randn(9, 1)).backward()
            optimizer.step()
        kept += [one.clone() for one in net.state_dict().values()]

    plain, watched = trained(program, None), trained(program, Measured(OPTIMIZER_STEP, "*"))
    assert all(torch.equal(one, other) for one, other in zip(plain, watched, strict=True))
