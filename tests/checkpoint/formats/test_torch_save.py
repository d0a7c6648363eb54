"""What torch.save wrote is read by its safe subset, under the names that programs use."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.checkpoint.formats.states import Net, same_state

from remora.checkpoint.formats.torch_save import import_torch_save
from remora.checkpoint.state.parts import Parts
from remora.core.errors import BadValue, CheckpointDamaged, StateUnsupported


def saved(state: Any, folder: Path) -> Path:
    torch.save(state, folder / "x.pt")
    return folder / "x.pt"


def test_a_whole_training_state_is_put_back(state: dict[str, Any], tmp_path: Path) -> None:
    wanted = {name: state[name] for name in ("model", "optimizer", "rng")}
    read = import_torch_save(saved(wanted, tmp_path))
    assert same_state(read, wanted)
    model = Net()
    optimizer = torch.optim.AdamW(model.parameters())
    Parts(model=model, optimizer=optimizer).apply(read)
    assert same_state({"o": optimizer.state_dict()}, {"o": state["optimizer"]})


@pytest.mark.parametrize("prefix", ["", "module.", "module._orig_mod.", "_orig_mod.module."])
@pytest.mark.parametrize("name", [None, "state_dict", "model_state_dict", "model"])
def test_a_model_is_found_under_its_usual_names(
    name: str | None, prefix: str, tmp_path: Path
) -> None:
    model = torch.nn.Linear(2, 2).state_dict()
    state: Any = {prefix + key: value for key, value in model.items()}
    read = import_torch_save(saved(state if name is None else {name: state, "n": 1}, tmp_path))
    assert same_state({"m": dict(read["model"])}, {"m": dict(model)})


def test_the_other_parts_have_usual_names_too(tmp_path: Path) -> None:
    state = {"optim": {"state": {}, "param_groups": []}, "lr_scheduler": {"last_epoch": 1}}
    read = import_torch_save(saved(state, tmp_path))
    assert read == {"optimizer": state["optim"], "scheduler": state["lr_scheduler"]}


class Runs:
    """Runs a command when it is unpickled."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (self.command,)


def test_a_file_that_would_run_a_command_does_not(tmp_path: Path) -> None:
    file = saved({"model": {}, "x": Runs(f"touch {tmp_path}/ran")}, tmp_path)
    with pytest.raises(StateUnsupported, match="without running code") as refused:
        import_torch_save(file)
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "ran").exists()


def test_a_whole_module_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StateUnsupported, match="state_dict"):
        import_torch_save(saved({"model": torch.nn.Linear(1, 1)}, tmp_path))


def test_what_is_no_dict_or_no_file_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(BadValue, match="holds a list"):
        import_torch_save(saved([torch.ones(1)], tmp_path))
    with pytest.raises(BadValue, match="there is no file"):
        import_torch_save(tmp_path / "missing.pt")


@settings(
    deadline=None, max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(at=st.integers(0, 10**6), flip=st.integers(1, 255), cut=st.booleans())
def test_a_damaged_file_is_refused_or_read(at: int, flip: int, cut: bool, tmp_path: Path) -> None:
    file = saved({"model": {"w": torch.ones(3)}}, tmp_path)
    data = bytearray(file.read_bytes())
    if cut:
        del data[at % len(data) :]
    else:
        data[at % len(data)] ^= flip
    file.write_bytes(data)
    try:
        assert isinstance(import_torch_save(file), dict)
    except (CheckpointDamaged, StateUnsupported, BadValue) as refused:
        assert "\n" not in str(refused)  # noqa: PT017, any other error fails the test
