"""The script's own tensors: found by path, saved if replay might not come by them, put back."""

from __future__ import annotations

import sys
from types import FrameType, SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from remora.checkpoint.ride import loose
from remora.checkpoint.ride.script_state import Capture, ScriptState, Tracked


def here(**variables: Any) -> FrameType:
    """A frame of a script with these variables."""
    namespace = {"__name__": "script", "sys": sys, "kept": [], **variables}
    exec("kept.append(sys._getframe())", namespace)
    frame: FrameType = namespace["kept"].pop()
    return frame


def found(**variables: Any) -> dict[str, torch.Tensor]:
    return loose.find([here(**variables)], ())


def test_tensors_are_found_wherever_a_variable_leads() -> None:
    mean = torch.ones(1)

    def closure() -> torch.Tensor:
        return mean

    paths = found(
        plain=torch.zeros(1),
        listed=[torch.zeros(2), {"deep": torch.zeros(3)}],
        trainer=SimpleNamespace(state=SimpleNamespace(loss=torch.zeros(4))),
        closure=closure,
        metric=nn.BatchNorm1d(2),
    )

    assert [path.removeprefix("0:<module>.") for path in paths] == [
        "plain", "listed[0]", "closure.mean", "listed[1]['deep']", "trainer.state.loss",
        "metric._parameters['weight']", "metric._parameters['bias']",
        "metric._buffers['running_mean']", "metric._buffers['running_var']",
        "metric._buffers['num_batches_tracked']",
    ]  # fmt: skip


def test_tracked_modules_and_data_sets_are_passed_by() -> None:
    net = nn.Linear(2, 2)
    data = torch.utils.data.TensorDataset(torch.zeros(3))

    assert not loose.find([here(net=net, data=data)], {id(net)})


def test_a_value_that_contains_itself_ends() -> None:
    ring: list[Any] = [torch.zeros(1)]
    ring.append(ring)

    assert len(found(ring=ring)) == 1


def test_what_is_unchanged_since_before_the_first_forward_is_not_saved() -> None:
    large, small = torch.zeros(5000), torch.zeros(5)
    unchanged = loose.Unchanged()
    unchanged.add([large, small])

    assert loose.worth_saving(small, unchanged)
    assert not loose.worth_saving(large, unchanged)
    assert loose.worth_saving(torch.zeros(5000), unchanged)
    large.add_(1)
    assert loose.worth_saving(large, unchanged)


def test_large_results_of_a_graph_are_not_saved() -> None:
    logits = torch.zeros(5000, requires_grad=True) * 2

    assert not loose.worth_saving(logits, loose.Unchanged())


@pytest.fixture(autouse=True)
def _no_frames_of_the_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("remora.checkpoint.ride.script_state.script_frames", lambda frame: [frame])


def state_at(frame: FrameType, *, said: list[str], gradients: bool = False) -> ScriptState:
    state = ScriptState(lambda: Capture(3, 3, frame, gradients), said.append)
    state.frame = frame
    return state


def test_values_are_put_back_in_place_whatever_graph_they_are_part_of() -> None:
    said: list[str] = []
    tail = torch.ones(2, requires_grad=True) * 3
    saved = state_at(here(tail=tail, half=torch.ones(2, dtype=torch.bfloat16)), said=said)
    held = saved.state_dict()
    other, half = torch.zeros(2, requires_grad=True) * 1, torch.zeros(2, dtype=torch.bfloat16)
    state_at(here(tail=other, half=half), said=said).load_state_dict(held)

    assert other.tolist() == [3, 3]
    assert half.tolist() == [1, 1]
    assert said == []


def test_what_cannot_be_put_back_is_said() -> None:
    said: list[str] = []
    held = state_at(here(kept_sum=torch.ones(2)), said=said).state_dict()
    state_at(here(kept_sum=torch.ones(3)), said=said).load_state_dict(held)

    assert len(said) == 1
    assert "0:<module>.kept_sum" in said[0]


def test_what_exceeds_the_limit_is_said_and_the_rest_saved(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("remora.checkpoint.ride.script_state.LOOSE_BYTES", 100)
    said: list[str] = []
    held = state_at(here(small=torch.ones(5), large=torch.ones(5000)), said=said).state_dict()
    small, large = torch.zeros(5), torch.zeros(5000)
    state_at(here(small=small, large=large), said=said).load_state_dict(held)

    assert (small.sum().item(), large.sum().item()) == (5, 0)
    assert "large of 19.5 KiB is not saved" in said[0]


def test_parameters_of_no_module_and_gradients_under_way_are_kept() -> None:
    weight = torch.ones(2, requires_grad=True)
    weight.sum().backward()
    state = state_at(here(), said=[], gradients=True)
    state.tracked = Tracked({}, {"sgd": torch.optim.SGD([weight], lr=1)})
    held = state.state_dict()
    held["parameters"] = {name: each.detach().clone() for name, each in held["parameters"].items()}
    weight.data.zero_()
    weight.grad = None
    state.load_state_dict(held)

    assert weight.tolist() == [1, 1]
    assert [each.grad.tolist() for each in [weight] if each.grad is not None] == [[1, 1]]
