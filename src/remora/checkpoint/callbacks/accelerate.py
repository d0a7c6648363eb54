"""Checkpointing in a loop written with accelerate.

    accelerator = Accelerator()
    model, optimizer, loader = accelerator.prepare(model, optimizer, loader)
    with checkpointing(accelerator, "runs/a", every="auto") as saver:
        for epoch in range(saver.epoch, epochs):
            for batch in loader:             # goes on where the run stopped
                …
                optimizer.step()
                saver.step()

What a checkpoint covers is what the accelerator was given to prepare or to checkpoint, so nothing
needs naming. The loaders skip by themselves what was done, and load none of it: neither
``accelerator.skip_first_batches`` nor ``accelerator.load_state`` has any part in this.
"""

from __future__ import annotations

import os
from typing import Any, Self

from remora.checkpoint.callbacks.ahead import AheadPosition
from remora.checkpoint.callbacks.loaders import position_of
from remora.checkpoint.checkpointer import Checkpointer
from remora.core.errors import BadValue, Unavailable

try:
    from accelerate import Accelerator
except ImportError as error:
    raise Unavailable(
        f"checkpointing with accelerate needs it ({error}); run: pip install 'remora[accelerate]'"
    ) from error


def checkpointing(
    accelerator: Accelerator,
    directory: str | os.PathLike[str],
    *,
    loader: Any = None,
    load_skipped: bool = False,
    **options: Any,
) -> Saver:
    """Put back the newest whole checkpoint, if there is one, and save from now on.

    Call it after ``accelerator.prepare`` and ``register_for_checkpointing``, and after the random
    numbers are seeded. Saved are the prepared models, optimizers, schedulers and loaders, the
    gradient scaler, whatever was registered, and the random numbers.

    Args:
        directory: the checkpoint folder. One job at a time.
        loader: which prepared loader is iterated once an epoch; needed only where several are.
        load_skipped: load the batches before the checkpoint's again and drop them; needed only
            where worker processes draw random numbers.
        options: those of :class:`~remora.checkpoint.checkpointer.Checkpointer`, by name.

    Raises:
        BadValue: there are several loaders and none is named.
        StateMismatch: the checkpoint is not of what the accelerator prepared.
    """
    places = _places(accelerator, load_skipped)
    training = _training_place(accelerator, places, loader)
    return Saver(accelerator, Checkpointer(directory, **options), places, training)


class Saver:
    """A job that is saved. :meth:`step` after each of its steps; :meth:`close` at the end."""

    def __init__(
        self, accelerator: Accelerator, checkpointer: Checkpointer, places: list[Any], training: Any
    ) -> None:
        self.checkpointer = checkpointer
        self._accelerator, self._places, self._training = accelerator, places, training
        try:
            checkpointer.track(
                model=[accelerator.unwrap_model(each) for each in accelerator._models],
                optimizer=[each.optimizer for each in accelerator._optimizers],
                scheduler=list(accelerator._schedulers),
                data=places,
                registered=list(accelerator._custom_objects),
                accelerator=_AcceleratorPart(accelerator),
            )
            self.steps: int = checkpointer.resume() or 0
        except BaseException:
            self.close()
            raise

    @property
    def epoch(self) -> int:
        """The epoch to go on with, from 0: how often the training loader was gone through."""
        return int(self._training.epoch)

    def step(self) -> bool:
        """One batch is done with: call it last in the loop.

        While gradients accumulate nothing is saved, and no step is counted.

        Returns:
            Whether a checkpoint was begun.
        """
        if not self._accelerator.sync_gradients:
            return False
        self.steps += 1
        return self.checkpointer.step(self.steps - 1)

    def close(self) -> None:
        """Finish what was begun and let go of the folder. Calling it twice does no harm."""
        self.checkpointer.close()
        places, self._places = self._places, []
        for place in places:
            place.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Place:
    """Where a prepared loader is: in its data, and in accelerate's own count of its passes."""

    def __init__(self, loader: Any, load_skipped: bool) -> None:
        self.loader = loader
        self._position = position_of(loader, load_skipped=load_skipped)

    @property
    def epoch(self) -> int:
        if isinstance(self._position, AheadPosition):
            return self._position.epoch
        return int(self.loader.iteration)

    def state_dict(self) -> dict[str, Any]:
        return {"position": self._position.state_dict(), "pass": self.loader.iteration}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._position.load_state_dict(state["position"])
        # A pass that has nothing left to give is not counted by accelerate.
        over = isinstance(self._position, AheadPosition) and self._position.nothing_left
        self.loader.iteration = state["pass"] + over

    def close(self) -> None:
        if isinstance(self._position, AheadPosition):
            self._position.close()


class _AcceleratorPart:
    """The accelerator's own: the place in an accumulation of gradients, and the scaler."""

    def __init__(self, accelerator: Accelerator) -> None:
        self._accelerator = accelerator

    def state_dict(self) -> dict[str, Any]:
        scaler = self._accelerator.scaler
        return {
            "step": self._accelerator.step,
            "scaler": None if scaler is None else scaler.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._accelerator.step = state["step"]
        if self._accelerator.scaler is not None and state["scaler"] is not None:
            self._accelerator.scaler.load_state_dict(state["scaler"])


def _places(accelerator: Accelerator, load_skipped: bool) -> list[_Place]:
    return [_Place(each, load_skipped) for each in accelerator._dataloaders]


def _training_place(accelerator: Accelerator, places: list[_Place], loader: Any) -> _Place:
    """The place of the loader that epochs are counted by."""
    chosen = [each for each in places if loader is None or each.loader is loader]
    if len(chosen) == 1:
        return chosen[0]
    if loader is not None:
        raise BadValue("loader= is not one that this accelerator prepared; give what prepare gave")
    if chosen:
        raise BadValue(
            f"{len(chosen)} loaders are prepared; say which is trained on: "
            "checkpointing(…, loader=…)"
        )
    raise BadValue("no loader is prepared; call accelerator.prepare(…) before checkpointing(…)")
