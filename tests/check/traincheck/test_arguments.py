"""Values as TrainCheck writes them, and the properties a running job has of the same."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from remora.check.traincheck.arguments import (
    CannotSay,
    arguments_of,
    pattern_of,
    properties_of,
)
from remora.check.values import properties

_TENSOR = {
    "_TRAINCHECK_data_ID": 7, "dtype": "torch.float32", "grad": None, "is_cpu": True,
    "itemsize": 4, "ndim": 2, "requires_grad": False, "shape": [2, 3],
}  # fmt: skip


@pytest.mark.parametrize(
    ("value", "typed"),
    [
        (None, {"NoneType": None}),
        (True, {"bool": True}),
        (3, {"int": 3}),
        (0.5, {"float": 0.5}),
        ("mean", {"str": "mean"}),
        ("x" * 200, {"str": "x" * 200}),
        (torch.float16, {"torch.dtype": "torch.float16"}),
        ((1, 2), {"tuple": [1, 2]}),
        ([], {"list": []}),
        ([1, 2.5], {"list": [{"int": 1}, {"float": 2.5}]}),
        ([True, None], {"list": [{"bool": True}, {"NoneType": None}]}),
        (torch.zeros(2, 3), {"torch.FloatTensor": _TENSOR}),
        (
            torch.nn.Parameter(torch.zeros(2, 3), requires_grad=False),
            {"torch.nn.Parameter": _TENSOR},
        ),
        ([torch.zeros(2, 3)], {"list": [{"torch.FloatTensor": _TENSOR}]}),
        (torch.nn.Dropout().eval(), {"torch.nn.modules.dropout.Dropout": {"training": False}}),
    ],
)
def test_a_trace_tells_of_a_value_what_a_running_job_reads(value: Any, typed: Any) -> None:
    live: dict[str, Any] = {}
    traced: dict[str, Any] = {}
    properties("x", value, live)
    properties_of("x", typed, traced)

    assert _without_identity(traced) == _without_identity(live)


def _without_identity(found: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in found.items() if not name.endswith(".identity")}


def test_a_tensors_number_is_what_tells_it_apart_and_never_asked_for() -> None:
    traced: dict[str, Any] = {}
    properties_of("x", {"torch.FloatTensor": _TENSOR}, traced)

    assert traced["x.identity"] == (7, (2, 3))
    pattern, lost = pattern_of({"x": {"torch.FloatTensor": _TENSOR}})
    assert "x.identity" not in pattern
    assert {"x.identity", "x.grad", "x.is_cpu", "x.itemsize"} == set(lost)


@pytest.mark.parametrize(
    ("typed", "pattern", "lost"),
    [
        ({"list": {}}, {}, ["that x is a list"]),
        ({"list": []}, {"x": []}, []),
        ({"dict": {}}, {"x.kind": "dict"}, []),
        ({"Mystery": {"level": 3}}, {}, ["that x is a Mystery", "x.level"]),
        ({"timedelta": {"days": 1}}, {"x.kind": "datetime.timedelta"}, ["x.days"]),
    ],
)
def test_what_a_pattern_loses_is_named(typed: Any, pattern: Any, lost: list[str]) -> None:
    assert pattern_of({"x": typed}) == (pattern, lost)


@pytest.mark.parametrize(
    "inputs",
    [
        {"x": None, "y": True, "z": 1, "s": "sum", "d": "torch.int8", "l": [1, 2], "e": []},
        {"x.kind": "torch.Tensor", "x.dtype": "torch.int64", "x.shape": [3]},
        {"x.kind": "torch.nn.parameter.Parameter", "x.requires_grad": True},
        {"m.kind": "torch.nn.modules.linear.Linear", "m.training": False},
        {"t.kind": "datetime.timedelta", "o.kind": "collections.OrderedDict"},
    ],
)
def test_inputs_are_written_as_they_are_read(inputs: dict[str, Any]) -> None:
    assert pattern_of(arguments_of(inputs)) == (inputs, [])


@pytest.mark.parametrize(
    "inputs",
    [
        {"x.dtype": "torch.int8"},
        {"x.kind": "torch.Tensor"},
        {"x.length": 3},
        {"x": 1, "x.kind": "int"},
        {"x.kind": "dict", "x.key": 1},
        {"x": float("nan")},
        {"x.kind": "Mystery"},
    ],
)
def test_inputs_that_cannot_be_written_so_are_refused(inputs: dict[str, Any]) -> None:
    with pytest.raises(CannotSay):
        arguments_of(inputs)


@pytest.mark.parametrize("shape", [None, 3, {"a": 1}, [{}], "x"])
def test_what_is_no_shape_is_none(shape: object) -> None:
    found: dict[str, object] = {}
    tensor = {"torch.FloatTensor": {"shape": shape, "_TRAINCHECK_data_ID": 5}}
    properties_of("x", tensor, found)

    assert hash(tuple(found.values())) is not None
    assert found["x.identity"] == (5, ())
