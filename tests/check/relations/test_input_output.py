"""Input-output: what a result shares with what was given."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from tests.check.rides import found_in, learned_from, of, seen
from tests.check.stories import EVAL, TRAIN, Told, checked, learned, said
from torch import nn

FLOAT, HALF = "torch.float32", "torch.bfloat16"


def tensor(name: str, **properties: Any) -> dict[str, Any]:
    told = {"dtype": FLOAT, "requires_grad": False, **properties}
    return {f"{name}.{suffix}": value for suffix, value in told.items()}


def call(inputs: Any, outputs: Any, function: str = "f", context: Any = TRAIN) -> Told:
    return Told(function, inputs=inputs, outputs=outputs, context=context)


def shaped(*shapes: Sequence[int], returned: Sequence[int] | None = None) -> list[Told]:
    return [
        call(tensor("x", shape=one, ndim=len(one)), tensor("result", shape=returned or one))
        for one in shapes
    ]


def test_a_result_of_another_dtype_than_before_is_found() -> None:
    invariants = learned([[call(tensor("x"), tensor("result"))]] * 3)

    assert said(invariants, "input-output") == {
        "result.dtype of f equals x.dtype when autocast is None"
    }
    half = tensor("x", dtype=HALF)
    assert checked(invariants, [[call(half, tensor("result", dtype=HALF))]]) == []
    [found] = checked(invariants, [[call(half, tensor("result"))]])
    assert found.seen == f"x.dtype is '{HALF}', result.dtype is '{FLOAT}'"


def test_of_several_inputs_the_first_that_always_agrees_is_said() -> None:
    ids, weight = tensor("0", dtype="torch.int64"), tensor("1")
    steps = [[call({**ids, **weight, **tensor("2")}, tensor("result"))]] * 3

    assert said(learned(steps), "input-output") == {
        "result.dtype of f equals 1.dtype when autocast is None"
    }


def test_what_was_asked_for_by_a_dtype_is_said_with_it() -> None:
    [found] = of("input-output", learned([[call(tensor("x") | {"dtype": None},
                                                tensor("result"))]] * 3))  # fmt: skip

    assert found.when.words() == "when autocast is None and dtype is None"


def test_a_shape_is_kept_only_if_it_was_for_several() -> None:
    assert "result.shape of f equals x.shape" in said(
        learned([shaped((8, 3), (8, 5))] * 3), "input-output"
    )
    batches = [shaped((8, 3)), shaped((4, 3)), shaped((2, 3))]  # a square layer
    assert "result.shape" not in " ".join(said(learned(batches), "input-output"))


def test_a_shape_that_is_not_kept_is_found() -> None:
    invariants = learned([shaped((8, 3), (8, 5))] * 3)

    assert checked(invariants, [shaped((9, 9), (7, 1))]) == []
    [found] = checked(invariants, [shaped((8, 3), returned=(8, 1))])
    assert found.seen == "x.shape is (8, 3), result.shape is (8, 1)"


def test_ndim_is_not_said_again_where_the_shape_is_the_same() -> None:
    def steps(sizes: list[int]) -> list[list[Told]]:
        given = [tensor("x", ndim=2, shape=(2, size)) for size in sizes]
        kept = [tensor("result", ndim=2, shape=(2, size)) for size in sizes]
        return [[call(*pair) for pair in zip(given, kept, strict=True)]] * 3

    assert "result.ndim of f equals x.ndim" in said(learned(steps([3])), "input-output")
    assert "result.ndim of f equals x.ndim" not in said(learned(steps([3, 4])), "input-output")


def test_gradients_are_required_of_what_was_given_one_tensor_that_requires_them() -> None:
    given, returned = tensor("x", requires_grad=True), tensor("result", requires_grad=True)
    invariants = learned([[call(given, returned)]] * 3)

    [found] = checked(invariants, [[call(given, tensor("result"))]])
    assert found.seen == "x.requires_grad is True, result.requires_grad is False"
    off = {**TRAIN, "grad": False}
    assert checked(invariants, [[call(given, tensor("result"), context=off)]]) == []
    two = learned([[call({**given, **tensor("y")}, returned)]] * 3)
    assert "requires_grad" not in " ".join(said(two, "input-output"))


def test_a_module_has_parameters_that_may_require_gradients() -> None:
    given = tensor("x", requires_grad=True) | {"self.training": True}
    steps = [[call(given, tensor("result", requires_grad=True))]] * 3

    assert "requires_grad" not in " ".join(said(learned(steps), "input-output"))


@pytest.mark.parametrize(("function", "kept"), [("fill_", True), ("f", False), ("__f__", False)])
def test_what_works_in_place_returns_the_memory_it_was_given(function: str, kept: bool) -> None:
    def step(given: int, returned: int) -> list[Told]:
        before, after = tensor("x", identity=(given,)), tensor("result", identity=(returned,))
        return [call(before, after, function)]

    invariants = learned([step(one, one) for one in range(4)])

    assert (
        f"result.identity of {function} equals x.identity" in said(invariants, "input-output")
    ) is kept
    assert [one.seen for one in checked(invariants, [step(7, 8)])] == (
        ["the result is other memory"] if kept else []
    )


def test_what_hands_on_its_input_under_a_condition_is_said_so() -> None:
    def step(training: bool, returned: int) -> Told:
        given = tensor("x", identity=(1,)) | {"training": training}
        context = TRAIN if training else EVAL
        return call(given, tensor("result", identity=(returned,)), context=context)

    invariants = of("input-output", learned([[step(True, 2), step(False, 1)]] * 3))
    findings = checked(invariants, [[step(True, 2), step(False, 2)]])

    assert [one.seen for one in findings] == ["the result is other memory"]
    assert "training is False" in findings[0].invariant.words()


def test_a_call_that_raised_or_lacks_the_property_is_not_judged() -> None:
    invariants = learned([[call(tensor("x"), tensor("result"))]] * 3)

    assert checked(invariants, [[call({}, tensor("result")), call(tensor("x"), {})]]) == []
    raised = Told("f", inputs=tensor("x"), outputs=tensor("result", dtype=HALF), failed=True)
    assert checked(invariants, [[raised]]) == []
    assert learned([[raised]] * 3) == []


def test_an_activation_that_changes_the_dtype_is_found_in_a_real_model(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def program() -> None:
        model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3), nn.ReLU())
        for _ in range(4):
            model(torch.randn(2, 4)).sum().backward()

    invariants = learned_from(program)
    assert found_in(program, invariants) == []

    original = torch.nn.functional.relu

    def careless(input: torch.Tensor, inplace: bool = False) -> torch.Tensor:  # noqa: A002
        return original(input, inplace).detach().double()

    monkeypatch.setattr(torch.nn.functional, "relu", careless)
    told = " ".join(
        seen(found_in(lambda: nn.ReLU()(torch.ones(2, requires_grad=True)), invariants))
    )
    assert "result.dtype is 'torch.float64'" in told
    assert "result.requires_grad is False" in told
