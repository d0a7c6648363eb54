"""Checkpointing inside Lightning's Trainer.

``Trainer(callbacks=[RemoraCheckpoint("runs/a", every="auto")])``: the same script, started again,
goes on after the newest checkpoint, in the middle of an epoch too.

Everything is put back in :meth:`RemoraCheckpoint.on_fit_start`, when the module is on its device
and the optimizers are made, and before the loops begin; what Lightning would load from a file of
its own it then finds loaded. Data loaders are given a state (Lightning asks those that have one),
so that they begin in the middle of an epoch.

A step is saved when Lightning is done with it, validation included. No callback hook comes there:
``on_train_batch_end`` is before validation, and a run resumed from it would leave that out. So for
the length of a fit two methods of its loops are wrapped on the instance.
"""

from __future__ import annotations

import inspect
import math
import os
from copy import deepcopy
from pathlib import Path
from typing import Any

from remora.checkpoint.callbacks.ahead import AheadPosition
from remora.checkpoint.callbacks.loaders import position_of
from remora.checkpoint.callbacks.replaced import Replaced
from remora.checkpoint.checkpointer import Checkpointer
from remora.core.errors import Unavailable

try:
    from lightning.pytorch.callbacks import Checkpoint
except ImportError as error:
    raise Unavailable(
        f"the callback for Lightning needs it ({error}); run: pip install 'remora[lightning]'"
    ) from error


class RemoraCheckpoint(Checkpoint):  # type: ignore[misc]  # of a package without types
    """Saves the whole state of a fit, and resumes from the newest that is whole.

    Saved with the module, its optimizers and schedules: the precision plugin's scaler, the random
    numbers, the place in the data, Lightning's loops, the state of the other callbacks and of the
    data module, and what ``on_save_checkpoint`` of the module adds. An explicit
    ``fit(ckpt_path=…)`` is obeyed: nothing of ours is restored then, and saving goes on from there.

    Means over an epoch that Lightning itself accumulates (``self.log(…, on_epoch=True)`` in the
    training step) begin anew where a run resumes, as with its own checkpoints.

    Args:
        directory: the checkpoint folder. One fit at a time.
        load_skipped: load the batches of the epoch before the checkpoint's again and drop them;
            needed only where worker processes draw random numbers.
        options: those of :class:`~remora.checkpoint.checkpointer.Checkpointer`, by name: ``every``
            (counted in batches after which an optimizer stepped), ``max_overhead``, ``keep`` and
            the rest.

    Raises:
        TypeError: an option that there is not.
    """

    def __init__(
        self, directory: str | os.PathLike[str], *, load_skipped: bool = False, **options: Any
    ) -> None:
        inspect.signature(Checkpointer).bind(directory, **options)
        self.directory = Path(directory)
        self.saver: Checkpointer | None = None
        """While fitting: what saves, with its counters."""
        self.load_skipped, self._options = load_skipped, options
        self._replaced = Replaced()
        self._fit: _Fit | None = None

    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
        """Everything there is to restore is there now."""
        if trainer.fast_dev_run:
            return  # Lightning saves nothing in such a run
        self.saver = Checkpointer(self.directory, **self._options)
        self._fit = _Fit(trainer, self.saver, self)
        self._fit.hook_into(self._replaced)
        self._fit.begin(resume=trainer.ckpt_path is None)

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        self._end()

    def teardown(self, trainer: Any, pl_module: Any, stage: str) -> None:
        if stage == "fit":
            self._end()

    def _end(self) -> None:
        self._replaced.put_back()
        fit, self._fit = self._fit, None
        if fit is not None:
            fit.close()
        if self.saver is not None:
            self.saver.close()


class _Fit:
    """One call of ``Trainer.fit`` that is saved."""

    def __init__(self, trainer: Any, saver: Checkpointer, callback: RemoraCheckpoint) -> None:
        self._trainer, self._saver, self._callback = trainer, saver, callback
        self._loop, self._epoch_loop = trainer.fit_loop, trainer.fit_loop.epoch_loop
        self._lightning = _LightningPart(trainer, callback)
        self._positions: list[AheadPosition] = []
        self._last_step = 0

    # ------------------------------------------------------------ resuming

    def begin(self, *, resume: bool) -> None:
        trainer = self._trainer
        self._saver.track(
            model=trainer.lightning_module,
            optimizer=list(trainer.optimizers),
            scheduler=[config.scheduler for config in trainer.lr_scheduler_configs],
            lightning=self._lightning,
        )
        if resume:
            self._saver.resume()
        self._last_step = self._epoch_loop._batches_that_stepped

    # ------------------------------------------------------------ hearing of steps

    def hook_into(self, replaced: Replaced) -> None:
        strategy, loop, epoch_loop = self._trainer.strategy, self._loop, self._epoch_loop
        process, began = strategy.process_dataloader, epoch_loop.on_run_start
        batch_over = epoch_loop.on_advance_end

        def process_and_count(loader: Any) -> Any:
            processed = process(loader)
            if self._trainer.training:
                self._count(processed)
            return processed

        def begin_and_forget(fetcher: Any) -> None:
            began(fetcher)
            # A batch was over, validation included: none of that is to be done again. The fit
            # loop's own setter would have it restart whenever there is a ``max_steps``.
            loop._restarting = epoch_loop.restarting = False

        def end_batch_and_save(fetcher: Any) -> None:
            batch_over(fetcher)
            self._settled()

        replaced.put(strategy, "process_dataloader", process_and_count)
        replaced.put(epoch_loop, "on_run_start", begin_and_forget)
        replaced.put(epoch_loop, "on_advance_end", end_batch_and_save)

    def _count(self, loader: Any) -> None:
        """Give ``loader`` a state, unless it has one; Lightning saves and loads it."""
        position = position_of(
            loader, ahead=self._fetches_ahead, load_skipped=self._callback.load_skipped
        )
        if isinstance(position, AheadPosition):
            self._positions.append(position)
            loader.state_dict = position.state_dict
            loader.load_state_dict = position.load_state_dict

    def _fetches_ahead(self) -> bool:
        """Where it does not know how many batches there are: to know the last."""
        return bool(self._trainer.num_training_batches == math.inf)

    def _settled(self) -> None:
        """Lightning is done with a batch, but for what belongs to the end of an epoch."""
        step = self._epoch_loop._batches_that_stepped
        if step != self._last_step and not self._epoch_loop._should_accumulate():
            self._last_step = step
            self._saver.step(step - 1)

    def close(self) -> None:
        for position in self._positions:
            position.close()


class _LightningPart:
    """What Lightning itself keeps: its loops, the precision plugin, callbacks, the data module."""

    def __init__(self, trainer: Any, callback: RemoraCheckpoint) -> None:
        self._trainer = trainer
        self._others = [each for each in trainer.callbacks if each is not callback]

    def state_dict(self) -> dict[str, Any]:
        trainer = self._trainer
        datamodule = trainer.datamodule
        return {
            "loops": trainer.fit_loop.state_dict(),
            "precision": trainer.precision_plugin.state_dict(),
            "callbacks": {each.state_key: each.state_dict() for each in self._others},
            "datamodule": {} if datamodule is None else datamodule.state_dict(),
            "metrics": {k: v.clone() for k, v in trainer.callback_metrics.items()},
            "added": self._added(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        trainer = self._trainer
        trainer.fit_loop.load_state_dict(state["loops"])
        trainer.precision_plugin.load_state_dict(state["precision"])
        for each in self._others:
            if saved := state["callbacks"].get(each.state_key):
                each.load_state_dict(deepcopy(saved))
        if trainer.datamodule is not None and state["datamodule"]:
            trainer.datamodule.load_state_dict(state["datamodule"])
        trainer.callback_metrics.update(state["metrics"])  # schedules look at the latest
        checkpoint = self._as_lightning_has_it() | state["added"]
        trainer.lightning_module.on_load_checkpoint(checkpoint)

    def _added(self) -> dict[str, Any]:
        """What the module's own hook puts into a checkpoint."""
        before = self._as_lightning_has_it()
        checkpoint = dict(before)
        self._trainer.lightning_module.on_save_checkpoint(checkpoint)
        return {key: value for key, value in checkpoint.items() if key not in before}

    def _as_lightning_has_it(self) -> dict[str, Any]:
        trainer = self._trainer
        return {
            "epoch": trainer.current_epoch,
            "global_step": trainer.global_step,
            "state_dict": trainer.lightning_module.state_dict(),
        }
