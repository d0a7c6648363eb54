"""Safetensors files: the stock library reads ours, and ours reads what others publish."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.checkpoint.formats.states import same_state

from remora.checkpoint.formats.safetensors_file import export_safetensors, import_safetensors
from remora.checkpoint.state.tree import flatten
from remora.core.errors import BadValue, CheckpointDamaged


def test_the_whole_state_comes_back(state: dict[str, Any], tmp_path: Path) -> None:
    export_safetensors(state, tmp_path / "all.safetensors")
    assert same_state(import_safetensors(tmp_path / "all.safetensors"), state)
    assert [path.name for path in tmp_path.iterdir()] == ["all.safetensors"]


def test_the_stock_library_reads_every_tensor(state: dict[str, Any], tmp_path: Path) -> None:
    export_safetensors(state, tmp_path / "all.safetensors")
    stock = safetensors.torch.load_file(tmp_path / "all.safetensors")
    flat = flatten(state)
    assert stock.keys() == flat.tensors.keys()
    for name, tensor in flat.tensors.items():
        assert stock[name].dtype is tensor.dtype
        assert torch.equal(stock[name].to(torch.float64), tensor.to(torch.float64))


def test_a_model_alone_loads_with_the_stock_library(tmp_path: Path) -> None:
    model, again = torch.nn.Linear(3, 2), torch.nn.Linear(3, 2)
    export_safetensors(model.state_dict(), tmp_path / "model.safetensors")
    safetensors.torch.load_model(again, tmp_path / "model.safetensors")
    assert torch.equal(again.weight, model.weight)


def test_a_tied_model_loads_with_the_stock_library(tmp_path: Path) -> None:
    def tied() -> torch.nn.Sequential:
        first, last = torch.nn.Linear(3, 3), torch.nn.Linear(3, 3)
        last.weight = first.weight
        return torch.nn.Sequential(first, last)

    model, again = tied(), tied()
    export_safetensors(model.state_dict(), tmp_path / "tied.safetensors")
    safetensors.torch.load_model(again, tmp_path / "tied.safetensors")
    assert same_state(again.state_dict(), model.state_dict())


def test_a_published_model_in_one_file_and_in_several(tmp_path: Path) -> None:
    model = {"a": torch.ones(3, 2), "b": torch.zeros(2)}
    safetensors.torch.save_file(model, tmp_path / "one.safetensors")
    assert same_state(import_safetensors(tmp_path / "one.safetensors"), {"model": model})
    for name, tensor in model.items():
        safetensors.torch.save_file({name: tensor}, tmp_path / f"{name}.safetensors")
    index = {"metadata": {}, "weight_map": {name: f"{name}.safetensors" for name in model}}
    (tmp_path / "m.safetensors.index.json").write_text(json.dumps(index))
    several = import_safetensors(tmp_path / "m.safetensors.index.json")
    assert same_state(several, {"model": model})


def test_a_slot_is_read_as_one(state: dict[str, Any], tmp_path: Path) -> None:
    flat = flatten(state)
    document = torch.frombuffer(bytearray(flat.document + b" " * 99), dtype=torch.uint8)
    tensors = {name: tensor.clone().contiguous() for name, tensor in flat.tensors.items()}
    extra = {"__state__": document, "__pad__": torch.zeros(9, dtype=torch.uint8)}
    safetensors.torch.save_file({**tensors, **extra}, tmp_path / "slot-0.safetensors")
    assert same_state(import_safetensors(tmp_path / "slot-0.safetensors"), state)


@pytest.mark.parametrize(
    "index",
    [
        "{",
        "[]",
        '{"weight_map": {"a": 5}}',
        '{"weight_map": {"a": "../one.safetensors"}}',
        '{"weight_map": {"a": "/etc/passwd"}}',
        '{"weight_map": {"a": "missing.safetensors"}}',
        '{"weight_map": {"absent": "one.safetensors"}}',
    ],
    ids=range(7),
)
def test_an_index_that_is_none_is_refused(index: str, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    for place in (tmp_path, folder):
        safetensors.torch.save_file({"a": torch.ones(1)}, place / "one.safetensors")
    (folder / "m.index.json").write_text(index)
    with pytest.raises(CheckpointDamaged, match=r"m\.index\.json"):
        import_safetensors(folder / "m.index.json")


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(at=st.integers(0, 10**6), flip=st.integers(1, 255), cut=st.booleans())
def test_a_damaged_file_is_refused_or_read(at: int, flip: int, cut: bool, tmp_path: Path) -> None:
    file = tmp_path / "x.safetensors"
    export_safetensors({"a": torch.ones(3), "b": {"c": [1, 2, {"d": torch.zeros(2)}]}}, file)
    data = bytearray(file.read_bytes())
    if cut:
        del data[at % len(data) :]
    else:
        data[at % len(data)] ^= flip
    file.write_bytes(data)
    try:
        assert isinstance(import_safetensors(file), dict)
    except CheckpointDamaged as refused:
        assert "\n" not in str(refused)  # noqa: PT017, any other error fails the test


def test_no_file_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(BadValue, match="there is no file"):
        import_safetensors(tmp_path / "x")


def test_a_write_that_fails_leaves_what_was_there(tmp_path: Path) -> None:
    file = tmp_path / "x.safetensors"
    export_safetensors({"a": torch.ones(1)}, file)
    with pytest.raises(OSError, match="x"):
        export_safetensors({"a": torch.zeros(1)}, tmp_path / "missing" / "x.safetensors")
    assert torch.equal(import_safetensors(file)["a"], torch.ones(1))
