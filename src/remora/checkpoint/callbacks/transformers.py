"""Checkpointing inside transformers' Trainer.

``Trainer(callbacks=[RemoraCallback("runs/a", every="auto")])``: the same script, started again,
goes on at the step after the newest checkpoint, in the middle of an epoch too.

Trainer decides where it begins before it calls any callback, from a folder it is given, and tells
callbacks of no trainer. So the first callback made wraps ``Trainer._inner_training_loop``, once;
a trainer without a callback of ours runs as before. A trainer with one is handed a folder that
holds only the ``trainer_state.json`` of the newest checkpoint. From it Trainer takes the step and
the epoch; finding no other files there it leaves weights, optimizer, schedule and random numbers
to us, who put them back in :meth:`RemoraCallback.on_train_begin`, and the loader's place with
them. A step is saved when Trainer is done with it: logged, evaluated and saved, if that was due.
"""

from __future__ import annotations

import functools
import inspect
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from remora.checkpoint.callbacks.ahead import AheadPosition
from remora.checkpoint.callbacks.loaders import position_of
from remora.checkpoint.callbacks.replaced import Replaced
from remora.checkpoint.checkpointer import Checkpointer
from remora.core.errors import Unavailable

try:
    from transformers import Trainer, TrainerCallback, TrainerState
    from transformers import trainer as trainer_module
    from transformers.trainer_callback import ExportableState
except ImportError as error:
    raise Unavailable(
        f"the callback for transformers' Trainer needs transformers and accelerate ({error}); "
        "run: pip install 'remora[trainer]'"
    ) from error

_LOOP = "_inner_training_loop"


class RemoraCallback(TrainerCallback):  # type: ignore[misc]  # of a package without types
    """Saves the whole state of a training, and resumes from the newest that is whole.

    Saved with the model, the optimizer and the schedule: the gradient scaler, the random numbers,
    the place in the data, Trainer's own state with its log, and the state of callbacks that can
    export it. An explicit ``train(resume_from_checkpoint=…)`` is obeyed: nothing of ours is
    restored then, and saving goes on from there.

    Args:
        directory: the checkpoint folder. One training at a time.
        load_skipped: load the batches of the epoch before the checkpoint's again and drop them;
            needed only where worker processes draw random numbers.
        options: those of :class:`~remora.checkpoint.checkpointer.Checkpointer`, by name: ``every``
            (counted in optimizer steps), ``max_overhead``, ``keep`` and the rest.

    Raises:
        TypeError: an option that there is not.
    """

    def __init__(
        self, directory: str | os.PathLike[str], *, load_skipped: bool = False, **options: Any
    ) -> None:
        inspect.signature(Checkpointer).bind(directory, **options)
        self.directory = Path(directory)
        self.saver: Checkpointer | None = None
        """While training: what saves, with its counters."""
        self._load_skipped, self._options = load_skipped, options
        self._training: _Training | None = None
        _wrap_trainer()

    @contextmanager
    def riding(self, trainer: Any, *, resume: bool) -> Iterator[str | None]:
        """Within ``trainer``'s loop. Gives the folder that it is to resume from, if any."""
        with Checkpointer(self.directory, **self._options) as saver, Replaced() as replaced:
            found = _look(saver) if resume else None
            self._training = _Training(trainer, saver, found, load_skipped=self._load_skipped)
            self._training.hook_into(replaced)
            self.saver = saver
            try:
                with _folder(found) as folder:
                    yield folder
            finally:
                self._training.close()
                self._training = None

    def on_train_begin(
        self, args: Any, state: Any, control: Any, train_dataloader: Any = None, **others: Any
    ) -> None:
        """Everything there is to restore is there now."""
        if self._training is not None:
            self._training.begin(train_dataloader)

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        if self._training is not None:
            self._training.epoch_begins()

    def on_epoch_end(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        if self._training is not None:
            self._training.epoch_is_over = True


class _Training:
    """One call of ``Trainer.train`` that is saved."""

    def __init__(
        self, trainer: Any, saver: Checkpointer, found: _Found | None, *, load_skipped: bool
    ) -> None:
        self._trainer, self._saver, self._found = trainer, saver, found
        self._load_skipped = load_skipped
        self.epoch_is_over = False
        self._data: Any = None
        self._last_step = 0

    def hook_into(self, replaced: Replaced) -> None:
        """Hear when a step is settled, and skip in the loader what Trainer would skip itself."""
        settle = self._trainer._maybe_log_save_evaluate

        def settle_and_save(*args: Any, **options: Any) -> None:
            settle(*args, **options)
            self._settled()

        def goes_on_by_itself(loader: Any, num_batches: int = 0) -> Any:
            return loader

        replaced.put(self._trainer, "_maybe_log_save_evaluate", settle_and_save)
        replaced.put(trainer_module, "skip_first_batches", goes_on_by_itself)

    def begin(self, loader: Any) -> None:
        trainer = self._trainer
        self._data = position_of(loader, load_skipped=self._load_skipped)
        parts: dict[str, Any] = {
            "model": trainer.model,
            "optimizer": getattr(trainer.optimizer, "optimizer", trainer.optimizer),
            "scheduler": trainer.lr_scheduler,
            "data": self._data,
            "trainer": _TrainerPart(trainer),
        }
        if (scaler := getattr(trainer.accelerator, "scaler", None)) is not None:
            parts["scaler"] = scaler
        self._saver.track(**parts)
        if self._found is not None:
            self._saver.resume(self._found.step)
        self._last_step = trainer.state.global_step
        if trainer.control.should_training_stop and isinstance(self._data, AheadPosition):
            self._data.stop()

    def close(self) -> None:
        if isinstance(self._data, AheadPosition):
            self._data.close()

    def epoch_begins(self) -> None:
        self.epoch_is_over = False
        if isinstance(self._data, AheadPosition):
            self._data.restore_draws()  # Trainer may have evaluated since it was restored

    def _settled(self) -> None:
        """Trainer has logged, evaluated and saved for a step, or for an epoch that is over."""
        state = self._trainer.state
        whole_epoch = float(state.epoch).is_integer()
        if state.global_step == self._last_step or (whole_epoch and not self.epoch_is_over):
            return  # what belongs to the epoch's end comes first
        self._last_step = state.global_step
        if whole_epoch and isinstance(self._data, AheadPosition):
            self._data.finish()
        self._saver.step(state.global_step - 1)


class _TrainerPart:
    """What Trainer itself keeps: its state and log, losses not yet logged, its callbacks' state."""

    def __init__(self, trainer: Any) -> None:
        self._trainer = trainer

    def state_dict(self) -> dict[str, Any]:
        trainer = self._trainer
        state = {k: v for k, v in vars(trainer.state).items() if k != "stateful_callbacks"}
        return {
            "state": state,
            "loss": trainer._tr_loss.clone(),
            "last_logged": trainer._globalstep_last_logged,
            "flos": float(trainer.current_flos),
            "callbacks": [(type(each).__name__, each.state()) for each in self._exportable()],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Of ``state["state"]`` most has come by Trainer's own way."""
        trainer = self._trainer
        trainer.state.log_history = state["state"]["log_history"]  # JSON had sorted its keys
        trainer._tr_loss.copy_(state["loss"])
        trainer._total_loss_scalar = -trainer._tr_loss.item()  # of steps that another run reports
        trainer._globalstep_last_logged = state["last_logged"]
        trainer.current_flos = state["flos"]
        saved = list(state["callbacks"])
        for each in self._exportable():
            mine = next((pair for pair in saved if pair[0] == type(each).__name__), None)
            if mine is not None:
                saved.remove(mine)
                own = each is trainer.control  # what others are made with is the script's to say
                vars(each).update(mine[1]["attributes"] | (mine[1]["args"] if own else {}))

    def _exportable(self) -> list[Any]:
        every = [*self._trainer.callback_handler.callbacks, self._trainer.control]
        return [each for each in every if isinstance(each, ExportableState)]


@dataclass(frozen=True)
class _Found:
    """The checkpoint to resume from, before there is anything to restore but Trainer's state."""

    step: int
    state: dict[str, Any]


class _Looked:
    """A part that takes nothing but a look."""

    def __init__(self) -> None:
        self.state: dict[str, Any] = {}

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.state = state["state"]


def _look(saver: Checkpointer) -> _Found | None:
    """It is read twice, this once before the optimizer has any state that would take memory."""
    looked = _Looked()
    step = saver.restore(trainer=looked)
    return None if step is None else _Found(step, looked.state)


@contextmanager
def _folder(found: _Found | None) -> Iterator[str | None]:
    """As much of a folder of Trainer's as it needs to take up its own state."""
    if found is None:
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="remora-resume-") as folder:
        state = TrainerState(**found.state)
        state.save_to_json(str(Path(folder, "trainer_state.json")))
        yield folder


def _wrap_trainer() -> None:
    """Once for the process. Trainers that carry no callback of ours are not touched."""
    loop = getattr(Trainer, _LOOP)
    if hasattr(loop, "__wrapped__"):
        return

    @functools.wraps(loop)
    def ride_along(trainer: Any, *args: Any, **options: Any) -> Any:
        callbacks = trainer.callback_handler.callbacks
        mine = next((each for each in callbacks if isinstance(each, RemoraCallback)), None)
        if mine is None:
            return loop(trainer, *args, **options)
        given = options.pop("resume_from_checkpoint", None)
        with mine.riding(trainer, resume=given is None) as folder:
            return loop(trainer, *args, resume_from_checkpoint=given or folder, **options)

    setattr(Trainer, _LOOP, ride_along)
