"""The tracing systems record what they say they record."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.systems.builders import TinySession

from remora.systems import registry
from remora.systems.describe import describe, every_attribute, shape_and_type


def trace(name: str, directory: Path, **options: bool) -> list[Any]:
    ride = registry.create(name, options).ride(TinySession(), directory)
    ride.step()
    ride.close()
    return [json.loads(line) for line in (directory / "trace.jsonl").read_text().splitlines()]


def test_settrace_records_calls_and_returns_in_pairs(tmp_path: Path) -> None:
    records = trace("settrace", tmp_path)
    calls = [r[2] for r in records if r[0] == "call"]
    returns = [r[2] for r in records if r[0] == "return"]
    assert len(calls) == len(returns)
    assert sum(name == "Linear.forward" for name in calls) == 2
    assert any(name.startswith("SGD.") for name in calls)


def test_settrace_fingerprints_tensors_when_asked(tmp_path: Path) -> None:
    for attributes in (True, False):
        directory = tmp_path / str(attributes)
        directory.mkdir()
        records = trace("settrace", directory, attributes=attributes)
        forward = next(r for r in records if r[:1] == ["call"] and r[2] == "Linear.forward")
        assert ("digest" in forward[3]["input"]) is attributes


def test_dispatch_mode_records_forward_and_backward_operators(tmp_path: Path) -> None:
    names = [record[0] for record in trace("dispatch-mode", tmp_path)]
    assert names.count("aten.addmm.default") == 2
    assert any("backward" in name for name in names)


@pytest.mark.parametrize(
    ("value", "record"),
    [
        (3, 3),
        ("x" * 100, "x" * 64),
        (None, None),
        ([1, [2, [3, [4]]]], [1, [2, "<builtins.list>"]]),
        ({"a": object()}, {"a": "<builtins.object>"}),
        (list(range(20)), list(range(8))),
    ],
)
def test_values_are_described_within_bounds(value: object, record: object) -> None:
    assert describe(value, shape_and_type) == record


def test_tensors_are_described_by_their_facts() -> None:
    tensor = torch.ones(2, 3, dtype=torch.bfloat16, requires_grad=True)
    described = describe(tensor, shape_and_type)
    assert described["shape"] == [2, 3]
    assert described["dtype"] == "torch.bfloat16"
    assert described["requires_grad"] is True
    everything = describe(tensor, every_attribute)
    assert len(everything) > 25
    assert everything["is_leaf"] is True
    assert len(everything["digest"]) == 16
