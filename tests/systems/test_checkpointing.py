"""The checkpointing peers really checkpoint, when they should, and count what it cost."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tests.systems.builders import TinySession
from torch.distributed.checkpoint.state_dict_loader import load

from remora.systems import registry


@pytest.mark.parametrize("name", ["torch-save", "dcp-async"])
def test_one_checkpoint_every_so_many_steps(name: str, tmp_path: Path) -> None:
    ride = registry.create(name, {"every": 3}).ride(TinySession(), tmp_path)
    for _ in range(10):
        ride.step()
    ride.drain()
    assert ride.period == 3
    assert len(ride.stalls_ns) == 3
    assert min(ride.stalls_ns) > 0
    ride.close()


def test_torch_save_keeps_the_newest_state(tmp_path: Path) -> None:
    session = TinySession()
    ride = registry.create("torch-save", {"every": 2}).ride(session, tmp_path)
    for _ in range(4):
        ride.step()
    ride.close()
    saved = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    for name, value in session.model.state_dict().items():
        assert torch.equal(saved["model"][name], value)
    assert saved["optimizer"]["param_groups"][0]["momentum"] == 0.9


def test_dcp_async_keeps_the_newest_state_as_it_was_at_its_step(tmp_path: Path) -> None:
    session = TinySession()
    ride = registry.create("dcp-async", {"every": 4}).ride(session, tmp_path)
    for _ in range(8):
        ride.step()
    expected = {name: value.clone() for name, value in session.model.state_dict().items()}
    ride.step()  # the save at step 8 may still be running; this step must not reach into it
    ride.drain()
    ride.close()
    blank = {"model": TinySession(seed=1).model.state_dict()}
    load(blank, checkpoint_id=tmp_path / "step-8", no_dist=True)
    for name, value in expected.items():
        assert torch.equal(blank["model"][name], value)
    assert [each.name for each in tmp_path.iterdir()] == ["step-8"]
