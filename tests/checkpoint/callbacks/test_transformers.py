"""A training of transformers' Trainer that is interrupted goes on as if it had not been."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("accelerate", reason="accelerate is not installed: pip install 'remora[test]'")
pytest.importorskip("transformers", reason="transformers is not installed: pip install 'remora[models]'")  # fmt: skip  # noqa: E501

from tests.checkpoint.callbacks.killing import killed_and_resumed
from tests.checkpoint.callbacks.trainer_program import outcome, train
from transformers import trainer as trainer_module

from remora.checkpoint.callbacks.transformers import RemoraCallback
from remora.checkpoint.inventory import committed, open_folder
from remora.core.errors import FolderInUse

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

SETTINGS: list[Any] = [
    pytest.param({}, id="each-step-logged"),
    pytest.param({"logging_steps": 4, "eval_on_start": True}, id="means-logged"),
    pytest.param({"max_steps": 10, "eval_strategy": "steps", "eval_steps": 3}, id="by-steps"),
    pytest.param({"accelerator_config": {"use_seedable_sampler": False}}, id="global-draws"),
]


@pytest.mark.parametrize("settings", SETTINGS)
def test_it_goes_on_as_if_nothing_had_happened(settings: dict[str, Any], tmp_path: Path) -> None:
    whole = train(None, tmp_path / "out", **settings)
    for stop_at in (7, 9):  # right after an epoch, and within one
        folder = tmp_path / str(stop_at)
        train(folder, tmp_path / "out", stop_at=stop_at, **settings)
        resumed = train(folder, tmp_path / "out", **settings)
        if settings.get("eval_on_start"):  # every start evaluates, which callbacks count
            assert _losses(resumed) == _losses(whole), f"stopped at step {stop_at}"
        else:
            assert outcome(resumed) == outcome(whole), f"stopped at step {stop_at}"


def _losses(trainer: Any) -> list[float]:
    return [each["loss"] for each in trainer.state.log_history if "loss" in each]


@pytest.mark.slow
def test_riding_along_changes_nothing(tmp_path: Path) -> None:
    whole, ridden = train(None, tmp_path), train(tmp_path / "run", tmp_path)
    assert outcome(ridden) == outcome(whole)


@pytest.mark.slow
def test_a_finished_training_is_not_done_again(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"max_steps": 8, "eval_strategy": "no"}
    whole = train(tmp_path / "run", tmp_path, **settings)
    again = train(tmp_path / "run", tmp_path, **settings)
    assert again.state.global_step == 8
    assert outcome(again)[1] == outcome(whole)[1]


@pytest.mark.slow
def test_it_survives_kill_9(tmp_path: Path) -> None:
    whole = train(None, tmp_path)
    losses = [each for each in whole.state.log_history if "loss" in each]
    said, log = killed_and_resumed("trainer_program", tmp_path / "run", seed=3, last=14)
    assert {*log} == {str((each["step"], each["loss"])) for each in losses}
    assert said == str(outcome(whole)[1:])


@pytest.mark.slow
def test_an_explicit_checkpoint_is_obeyed(tmp_path: Path) -> None:
    train(tmp_path / "run", tmp_path / "out", stop_at=8)
    theirs: dict[str, Any] = {
        "save_strategy": "steps",
        "save_steps": 3,
        "max_steps": 3,
        "eval_strategy": "no",
    }
    train(None, tmp_path / "out", **theirs)
    resumed = train(
        tmp_path / "run", tmp_path / "out", eval_strategy="no",
        resume_from_checkpoint=str(tmp_path / "out" / "checkpoint-3"),
    )  # fmt: skip
    assert len(_losses(resumed)) == 18  # not the seven steps that ours had, and eleven more
    assert resumed.state.log_history[3]["step"] == 4
    newest = committed(open_folder(tmp_path / "run"))[0]
    assert newest.entry.step == resumed.state.global_step


def test_a_trainer_without_the_callback_is_left_alone(tmp_path: Path) -> None:
    RemoraCallback(tmp_path / "run")
    train(None, tmp_path, max_steps=1, eval_strategy="no")
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_it_leaves_the_library_as_it_was_found(tmp_path: Path) -> None:
    skip = trainer_module.skip_first_batches
    trainer = train(tmp_path / "run", tmp_path, stop_at=2)
    assert trainer_module.skip_first_batches is skip
    assert "_maybe_log_save_evaluate" not in vars(trainer)


def test_a_folder_in_use_is_refused(tmp_path: Path) -> None:
    from remora.checkpoint.checkpointer import Checkpointer

    with Checkpointer(tmp_path / "run"), pytest.raises(FolderInUse):
        train(tmp_path / "run", tmp_path)


def test_an_unknown_option_is_refused_at_once() -> None:
    with pytest.raises(TypeError, match="evry"):
        RemoraCallback("runs/a", evry=3)
