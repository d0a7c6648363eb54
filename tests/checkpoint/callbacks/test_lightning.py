"""A fit of Lightning's that is interrupted goes on as if it had not been."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("lightning", reason="lightning is not installed: pip install 'remora[test]'")

import lightning
from tests.checkpoint.callbacks.data import Drawn, Stream
from tests.checkpoint.callbacks.killing import killed_and_resumed
from tests.checkpoint.callbacks.lightning_program import Module, train
from torch.utils.data import DataLoader

from remora.checkpoint.callbacks.lightning import RemoraCheckpoint
from remora.core.errors import FolderInUse, StateMismatch

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*cannot be entered in the middle"),
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:`isinstance"),
]  # fmt: skip


def same_tail(resumed: Module, whole: Module) -> None:
    """Every step and validation that was run again or anew is the one of the whole run."""
    steps, validations = len(resumed.steps), len(resumed.validations)
    assert steps < len(whole.steps)
    assert resumed.steps == whole.steps[-steps:]
    assert resumed.validations == whole.validations[len(whole.validations) - validations :]
    assert resumed.outcome() == whole.outcome()


SETTINGS: list[Any] = [
    pytest.param({}, id="epochs"),
    pytest.param({"plateau": True, "val_check_interval": 3}, id="validation-within"),
    pytest.param({"accumulate_grad_batches": 3, "val_check_interval": 4}, id="accumulating"),
    pytest.param({"max_steps": 17}, id="by-steps"),
    pytest.param({"data": Stream, "shuffle": False}, id="stream"),
    pytest.param({"limit_train_batches": 9, "plateau": True}, id="epochs-cut-short"),
]


@pytest.mark.slow
@pytest.mark.parametrize("settings", SETTINGS)
def test_it_goes_on_as_if_nothing_had_happened(settings: dict[str, Any], tmp_path: Path) -> None:
    whole = train(None, **settings)
    for stop_at in (9, 11):  # one is within an epoch, the other at its end
        folder = tmp_path / str(stop_at)
        train(folder, stop_at=stop_at, **settings)
        same_tail(train(folder, **settings), whole)


def test_riding_along_changes_nothing(tmp_path: Path) -> None:
    whole, ridden = train(None), train(tmp_path / "run")
    assert ridden.steps == whole.steps
    assert ridden.validations == whole.validations
    assert ridden.outcome() == whole.outcome()


def test_a_finished_fit_is_not_done_again(tmp_path: Path) -> None:
    whole = train(tmp_path / "run")
    again = train(tmp_path / "run")
    assert again.steps == []
    assert [each.tolist() for each in again.parameters()] == whole.outcome()[0]


@pytest.mark.slow
def test_it_survives_kill_9(tmp_path: Path) -> None:
    whole = train(None)
    said, log = killed_and_resumed("lightning_program", tmp_path / "run", seed=11, last=25)
    assert {*log} == {str(step) for step in whole.steps}
    assert said == str(whole.outcome())


def test_an_explicit_checkpoint_is_obeyed(tmp_path: Path) -> None:
    train(tmp_path / "run", stop_at=8)
    trainer = lightning.Trainer(
        max_epochs=1, accelerator="cpu", logger=False, enable_progress_bar=False,
        enable_model_summary=False, enable_checkpointing=False,
    )  # fmt: skip
    lightning.seed_everything(0, verbose=False)
    trainer.fit(Module(None, False, None), DataLoader(Drawn(), 2), DataLoader(Drawn(), 4))
    trainer.save_checkpoint(tmp_path / "theirs.ckpt")
    resumed = train(tmp_path / "run", ckpt_path=tmp_path / "theirs.ckpt")
    assert resumed.steps[0][:3] == (1, 0, 11)


def test_another_model_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train(tmp_path / "run", stop_at=3)
    monkeypatch.setattr("tests.checkpoint.callbacks.lightning_program.WIDTH", 5)
    with pytest.raises(StateMismatch, match=r"model\.net\.0\.weight"):
        train(tmp_path / "run")


def test_a_folder_in_use_is_refused(tmp_path: Path) -> None:
    from remora.checkpoint.checkpointer import Checkpointer

    with Checkpointer(tmp_path / "run"), pytest.raises(FolderInUse):
        train(tmp_path / "run", stop_at=1)


def test_an_unknown_option_is_refused_at_once() -> None:
    with pytest.raises(TypeError, match="evry"):
        RemoraCheckpoint("runs/a", evry=3)
