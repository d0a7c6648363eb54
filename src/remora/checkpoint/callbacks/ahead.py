"""Where a data loader is whose framework fetches one batch before it gives the one before.

accelerate does so, to know which batch is the last: when a step is done, the next batch has been
fetched already. What counts for a checkpoint is what the training loop was given. So the batch
that waits is fetched again on resuming, with the random numbers it was fetched with, and only then
are the random numbers put where the checkpoint found them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from torch.utils.data import DataLoader

from remora.checkpoint.state.position import DataPosition, Epoch
from remora.checkpoint.state.rng import capture_rng, restore_rng
from remora.checkpoint.state.skipping import Draws
from remora.core.errors import StateMismatch


class AheadPosition(DataPosition):
    """The position of ``loader``; where ``ahead()``, a batch that was fetched waits to be given.

    As :class:`DataPosition`. In a pass that goes on, the random numbers too go on from the
    checkpoint, at the first fetch, whatever the framework drew between restoring and that. This
    object itself is what to name as a part.
    """

    def __init__(
        self, loader: DataLoader[Any], ahead: Callable[[], bool], *, load_skipped: bool = False
    ) -> None:
        super().__init__(loader, load_skipped=load_skipped)
        self._ahead = ahead
        self._notes_draws = loader.num_workers == 0  # workers draw from their own
        self._seeded = _seeded_sampler(loader)
        self._batches = _length(loader)
        self._resumed: dict[str, Any] | None = None
        self._latest: Latest | None = None
        self._stopped = False

    @property
    def nothing_left(self) -> bool:
        """Of the pass that was restored, the loop has been given everything."""
        return self._pending is not None and bool(self._pending["given_all"])

    def restore_draws(self) -> None:
        """Between two passes too, put the random numbers where the checkpoint found them."""
        if self._resumed is not None:
            restore_rng(self._resumed["now"])

    def finish(self) -> None:
        """The loop asks for no more of this pass: what comes is a new one."""
        if self._epoch is not None:
            self._epoch.ended = True

    def stop(self) -> None:
        """Give nothing more: the run was over when the checkpoint was made."""
        self._stopped = True

    def state_dict(self) -> dict[str, Any]:
        """The position, the draws before the batch that waits, and the random numbers now."""
        state = super().state_dict()
        if self._resumed is not None:  # nothing has been asked for since
            return state | self._resumed
        latest = self._fetched_ahead()
        state["batch"] -= latest is not None and not latest.last
        return state | {
            "before": latest and latest.before,
            "given_all": latest is not None and latest.last,
            "now": capture_rng(),
            "batches": self._batches,
            "seed": getattr(self._seeded, "initial_seed", None),
        }

    def _fetched_ahead(self) -> Latest | None:
        """The fetch that the loop has not seen the outcome of: a batch, or that there is none."""
        latest = self._latest
        if latest is None or not latest.ahead() or not latest.epoch.batch:
            return None
        return latest if latest.epoch.running else None

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Have the next pass go on from there.

        Raises:
            StateMismatch: the data or its batches are others.
            CheckpointDamaged: ``state`` is not one that :meth:`state_dict` gave.
        """
        lines = self.misfits(state)
        if state["batches"] != self._batches and state["start"] is not None:
            lines.append(f"batches in a pass were {state['batches']}, are {self._batches}")
        if lines:
            raise StateMismatch(
                f"the checkpoint does not fit the data: {'; '.join(lines)}; "
                "resume with the same data, batch size and number of processes"
            )
        super().load_state_dict(state)
        self._resumed = {key: state.get(key) for key in ("before", "now", "seed")}
        self._stopped = False
        if self._seeded is not None and self._resumed["seed"] is not None:
            self._seeded.initial_seed = self._resumed["seed"]

    def iterate(self, loader: DataLoader[Any]) -> Iterator[Any]:
        if self._stopped:
            return iter(())
        resumed, self._resumed = self._resumed, None
        goes_on = self._pending is not None
        counted = super().iterate(loader)
        draws = self._draws if self._notes_draws else None
        if self._epoch is None:
            raise AssertionError("iterating begins an epoch")
        self._latest = Latest(self._epoch, ahead=self._ahead)
        return Pass(counted, self._latest, draws, resumed if goes_on else None)


def _seeded_sampler(loader: DataLoader[Any]) -> Any | None:
    """accelerate's, which shuffles by a seed of its own and the epoch."""
    within = getattr(loader.batch_sampler, "sampler", None)
    return next((each for each in (loader.sampler, within) if hasattr(each, "initial_seed")), None)


def _length(loader: DataLoader[Any]) -> int | None:
    """Batches in a pass, where that is known."""
    try:
        return len(loader)
    except TypeError:
        return None


@dataclass
class Latest:
    """The fetch made last in one pass."""

    epoch: Epoch
    ahead: Callable[[], bool]
    """Whether the loop is given its batch only after the next fetch."""
    before: dict[str, Any] | None = None
    """What every generator's state was before it; None where that does not matter."""
    last: bool = False
    """It found that there are no more."""


class Pass:
    """One pass over a loader: notes the draws before each fetch, or puts them there."""

    def __init__(
        self,
        counted: Iterator[Any],
        latest: Latest,
        draws: Draws | None,
        resumed: dict[str, Any] | None,
    ) -> None:
        self._counted, self._latest = counted, latest
        self._draws, self._resumed = draws, resumed

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        resumed, self._resumed = self._resumed, None
        if resumed is None:
            return self._fetch()
        if resumed["before"] is not None and self._draws is not None:
            self._draws.restore(resumed["before"])
            try:
                return self._fetch()
            finally:
                restore_rng(resumed["now"])
        restore_rng(resumed["now"])
        return self._fetch()

    def _fetch(self) -> Any:
        if self._draws is not None:
            self._latest.before = self._draws.capture()
        try:
            return next(self._counted)
        except StopIteration:
            self._latest.last = True
            # Fetching ahead, the loop is still at the batch before: over when it lets go of this.
            self._latest.epoch.ended = not self._latest.ahead()
            raise

    def __len__(self) -> int:
        return len(self._counted)  # type: ignore[arg-type]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._counted, name)
