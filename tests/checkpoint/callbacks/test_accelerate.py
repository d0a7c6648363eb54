"""A loop written with accelerate that is interrupted goes on as if it had not been."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("accelerate", reason="accelerate is not installed: pip install 'remora[test]'")

from accelerate import Accelerator
from tests.checkpoint.callbacks.accelerate_program import BATCHES, train
from tests.checkpoint.callbacks.data import Drawn
from tests.checkpoint.callbacks.killing import killed_and_resumed
from torch.utils.data import DataLoader

from remora.checkpoint.callbacks.accelerate import checkpointing
from remora.core.errors import BadValue

SETTINGS: list[Any] = [
    pytest.param({}, id="global-draws"),
    pytest.param({"seedable": True}, id="seedable"),
    pytest.param({"accumulate": 4}, id="accumulating"),
    pytest.param({"order": "generator"}, id="generator"),
    pytest.param({"order": "replacement"}, id="replacement"),
]
PER_EPOCH = BATCHES // 3


@pytest.mark.slow
@pytest.mark.parametrize("settings", SETTINGS)
def test_it_goes_on_as_if_nothing_had_happened(settings: dict[str, Any], tmp_path: Path) -> None:
    whole, outcome = train(None, **settings)
    for stop_at in (3, PER_EPOCH, PER_EPOCH + 1):
        folder = tmp_path / str(stop_at)
        train(folder, stop_at=stop_at, **settings)
        resumed, end = train(folder, **settings)
        assert resumed == whole[-len(resumed) :], f"stopped after {stop_at} batches"
        assert len(resumed) < len(whole) or "accumulate" in settings
        assert end == outcome


@pytest.mark.slow
def test_draws_of_workers_are_exact_if_skipped_batches_are_loaded(tmp_path: Path) -> None:
    whole, outcome = train(None, workers=2)
    train(tmp_path / "run", stop_at=5, workers=2)
    resumed, end = train(tmp_path / "run", load_skipped=True, workers=2)
    assert resumed == whole[-len(resumed) :]
    assert end == outcome


def test_riding_along_changes_nothing(tmp_path: Path) -> None:
    assert train(tmp_path / "run") == train(None)


@pytest.mark.slow
def test_it_survives_kill_9(tmp_path: Path) -> None:
    whole, outcome = train(None)
    said, log = killed_and_resumed("accelerate_program", tmp_path / "run", seed=5, last=25)
    assert {*log} == {str(each) for each in whole if len(each) == 3}
    assert said == str(outcome)


def prepared(loaders: int) -> tuple[Accelerator, list[Any]]:
    accelerator = Accelerator(cpu=True)
    made = [accelerator.prepare(DataLoader(Drawn(), batch_size=2)) for _ in range(loaders)]
    return accelerator, made


def test_the_loader_must_be_known(tmp_path: Path) -> None:
    accelerator, _ = prepared(2)
    with pytest.raises(BadValue, match="2 loaders are prepared; say which"):
        checkpointing(accelerator, tmp_path / "run")
    with pytest.raises(BadValue, match="not one that this accelerator prepared"):
        checkpointing(accelerator, tmp_path / "run", loader=DataLoader(Drawn()))
    accelerator, _ = prepared(0)
    with pytest.raises(BadValue, match="no loader is prepared"):
        checkpointing(accelerator, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_it_leaves_the_loader_as_it_was_found(tmp_path: Path) -> None:
    accelerator, (loader,) = prepared(1)
    with checkpointing(accelerator, tmp_path / "run") as saver:
        assert saver.epoch == saver.steps == 0
        assert type(loader.base_dataloader) is not DataLoader
    assert type(loader.base_dataloader) is DataLoader
