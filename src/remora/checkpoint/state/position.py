"""Where a plain DataLoader is: the epoch, the batch in it, and the draws that made its order.

What counts is what the training loop was given, not what workers have fetched ahead.
"""

from __future__ import annotations

import warnings
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from torch.utils.data import DataLoader, IterableDataset

from remora.checkpoint.state.rng import capture_rng, restore_rng
from remora.checkpoint.state.skipping import Draws, skipping
from remora.core.errors import CheckpointDamaged


def _counting(position: DataPosition) -> type[DataLoader[Any]]:
    """A class for one loader: ``iter()`` looks for ``__iter__`` there, not on the instance."""
    original = position.loader_class

    class Counted(original):  # type: ignore[misc, valid-type]
        _remora_position = position

        def __iter__(self) -> Iterator[Any]:
            return position.iterate(self)

    for attribute in ("__name__", "__qualname__", "__module__", "__doc__"):
        setattr(Counted, attribute, getattr(original, attribute))
    return Counted


@dataclass(eq=False)
class Epoch:
    """One pass over the data."""

    number: int
    start: dict[str, Any]
    """What every generator's state was before the pass."""
    draws_base_seed: bool
    sampler_epoch: int | None
    """What ``set_epoch`` had told the sampler."""
    data: dict[str, int | None]
    """What the number of a batch means: how many samples there are, and in a batch."""
    batch: int = 0
    """Batches that the loop was given."""
    ended: bool = False
    iterator: weakref.ref[CountedIterator] | None = field(default=None)

    @property
    def running(self) -> bool:
        """Whether more may be asked of it. A loop left by ``break`` drops its iterator."""
        return not self.ended and self.iterator is not None and self.iterator() is not None


class DataPosition:
    """Counts what a DataLoader yields, and makes it go on from a recorded place.

    While attached, ``loader`` is of a subclass of its class made for it alone; :meth:`close`
    undoes that. Its position is that of the iterator made last. After :meth:`load_state_dict`
    the next ``iter(loader)`` goes on at the recorded batch of the recorded epoch; those after it
    begin new epochs.

    A map-style dataset goes on exactly and loads nothing that was skipped, whatever the number
    of workers. What workers themselves draw (random augmentations) begins again from the epoch's
    seed, since a worker's generators cannot be seen from here; ``load_skipped=True`` loads the
    skipped batches again and drops them, which is exact there too, except in later epochs of
    persistent workers. Iterable datasets, and loaders with an ``__iter__`` of their own, are
    always read over so, and a warning says it once.

    Samplers must draw when their iteration begins, or from a generator of their own that nothing
    else draws from: those of torch do.
    """

    def __init__(self, loader: DataLoader[Any], *, load_skipped: bool = False) -> None:
        self._watched = weakref.ref(loader)  # it must go when its owner lets it, workers and all
        self.loader_class = type(loader)
        self._draws = Draws(loader)
        self._load_skipped = load_skipped
        self._said = False
        self._users = 1
        self._begun = 0
        self._epoch: Epoch | None = None
        self._pending: dict[str, Any] | None = None
        loader.__class__ = _counting(self)

    @property
    def epoch(self) -> int:
        """The pass that is running, or else the next one; the first is 0."""
        if self._pending is not None:
            return int(self._pending["epoch"])
        return self._epoch.number if self._epoch and self._epoch.running else self._begun

    @property
    def batch(self) -> int:
        """Batches of :attr:`epoch` that the loop was given."""
        if self._pending is not None:
            return int(self._pending["batch"])
        return self._epoch.batch if self._epoch and self._epoch.running else 0

    def state_dict(self) -> dict[str, Any]:
        """The position; tensors in it are small and new."""
        if self._pending is not None:
            return dict(self._pending)
        state = {
            "epoch": self.epoch,
            "batch": self.batch,
            "own": self._draws.capture_own(),
            "start": None,
        }
        if self._epoch is not None and self._epoch.running:
            state |= {
                "start": self._epoch.start,
                "draws_base_seed": self._epoch.draws_base_seed,
                "sampler_epoch": self._epoch.sampler_epoch,
                "data": self._epoch.data,
            }
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Have the next ``iter()`` go on from there.

        Raises:
            CheckpointDamaged: ``state`` is not one that :meth:`state_dict` gave.
        """
        numbers = [state.get(key) for key in ("epoch", "batch")]
        if not all(type(number) is int and number >= 0 for number in numbers):
            raise CheckpointDamaged(f"no position of a loader: epoch and batch are {numbers}")
        self._draws.restore_own(state["own"])
        self._epoch = None
        self._begun = state["epoch"]
        self._pending = dict(state) if state["start"] is not None else None

    def misfits(self, state: dict[str, Any]) -> list[str]:
        """How the data or its batching differ from what a position within an epoch counts in."""
        loader = self._watched()
        recorded, here = state.get("data") or {}, {} if loader is None else _data(loader)
        return [
            f"{name} was {recorded[name]}, is {here[name]}"
            for name in sorted(recorded.keys() & here.keys())
            if recorded[name] != here[name]
        ]

    @classmethod
    def of(cls, loader: DataLoader[Any]) -> DataPosition:
        """The position of ``loader``: the one attached to it, if there is one, with a user more."""
        position: DataPosition | None = getattr(type(loader), "_remora_position", None)
        if position is None:
            return cls(loader)
        position._users += 1
        return position

    def close(self) -> None:
        """Once by each user; the last leaves the loader as it was found."""
        self._users -= 1
        loader = self._watched()
        if self._users == 0 and loader is not None:
            loader.__class__ = self.loader_class

    def iterate(self, loader: DataLoader[Any]) -> Iterator[Any]:
        """What ``iter(loader)`` does: begin an epoch, or go on with the one restored."""
        pending, self._pending = self._pending, None
        if pending is None:
            epoch = Epoch(
                self._begun,
                self._draws.capture(),
                draws_base_seed=not _has_standing_iterator(loader),
                sampler_epoch=getattr(_epoch_sampler(loader), "epoch", None),
                data=_data(loader),
            )
            iterator: Iterator[Any] = self.loader_class.__iter__(loader)
        else:
            epoch = Epoch(
                pending["epoch"],
                pending["start"],
                draws_base_seed=pending["draws_base_seed"],
                sampler_epoch=pending["sampler_epoch"],
                data=_data(loader),
                batch=pending["batch"],
            )
            iterator = self._go_on(loader, epoch)
        counted = CountedIterator(iterator, epoch)
        epoch.iterator = weakref.ref(counted)
        self._epoch, self._begun = epoch, epoch.number + 1
        return counted

    def _go_on(self, loader: DataLoader[Any], epoch: Epoch) -> Iterator[Any]:
        """An iterator at ``epoch``'s batch. The global generators are left as they were found.

        The loader's own are where going on brings them: the recorded ones have drawn for batches
        that workers had fetched ahead, which are drawn for again, by perhaps other workers.
        """
        found = capture_rng(cuda=None)
        sampler = _epoch_sampler(loader)
        if sampler is not None and epoch.sampler_epoch is not None:
            sampler.set_epoch(epoch.sampler_epoch)
        self._draws.restore(epoch.start)
        try:
            return self._iterator_at(loader, epoch)
        finally:
            restore_rng(found, cuda=None)

    def _iterator_at(self, loader: DataLoader[Any], epoch: Epoch) -> Iterator[Any]:
        load = self._load_skipped or self._must_load(loader)
        count = 0 if load else epoch.batch
        with skipping(loader, count, self._as_it_began(loader, epoch)) as indices:
            iterator: Iterator[Any] = self.loader_class.__iter__(loader)
            for _ in range(epoch.batch if load else 0):
                next(iterator, None)
            indices.settle()
        return iterator

    def _as_it_began(self, loader: DataLoader[Any], epoch: Epoch) -> Callable[[Any], None]:
        """What to do before a sampler's iteration begins so that it draws as it did then.

        A new iterator begins it, draws its workers' seed and, with workers, begins it again. A
        persistent one that is reset begins it and draws no seed. Where the epoch had the one and
        has the other now, the seed's draw is undone or made up for.
        """
        is_new = not _has_standing_iterator(loader)

        def adjust(sampler: Any) -> None:
            if is_new and not epoch.draws_base_seed:
                self._draws.restore(epoch.start)
            elif epoch.draws_base_seed and not is_new:
                iter(sampler)
                self._draws.draw_base_seed()

        return adjust

    def _must_load(self, loader: DataLoader[Any]) -> bool:
        """Whether skipped batches have to be loaded; says so once."""
        own_iteration = self.loader_class.__iter__ is not DataLoader.__iter__
        must = own_iteration or isinstance(loader.dataset, IterableDataset)
        if must and not self._said:
            self._said = True
            warnings.warn(
                f"{type(loader.dataset).__name__} cannot be entered in the middle: the "
                "batches before the checkpoint's are loaded again and dropped; a loader with "
                "state_dict (torchdata's StatefulDataLoader) goes on at once",
                stacklevel=5,
            )
        return must


def _data(loader: DataLoader[Any]) -> dict[str, int | None]:
    data: dict[str, int | None] = {"batch_size": loader.batch_size}
    if hasattr(loader.dataset, "__len__"):
        data["samples"] = len(loader.dataset)
    if (replicas := getattr(loader.sampler, "num_replicas", None)) is not None:
        data["replicas"] = int(replicas)
    return data


def _has_standing_iterator(loader: DataLoader[Any]) -> bool:
    return bool(
        loader.persistent_workers and loader.num_workers > 0 and loader._iterator is not None
    )


def _epoch_sampler(loader: DataLoader[Any]) -> Any | None:
    """The sampler that is told of epochs, as DistributedSampler is."""
    batches = loader.batch_sampler
    for sampler in (loader.sampler, batches, getattr(batches, "sampler", None)):
        if hasattr(sampler, "set_epoch") and type(getattr(sampler, "epoch", None)) is int:
            return sampler
    return None


class CountedIterator:
    """A loader's iterator that counts what it gives; all else is the iterator's own."""

    def __init__(self, iterator: Iterator[Any], epoch: Epoch) -> None:
        self._iterator, self._epoch = iterator, epoch

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        try:
            batch = next(self._iterator)
        except StopIteration:
            self._epoch.ended = True
            raise
        self._epoch.batch += 1
        return batch

    def __len__(self) -> int:
        return len(self._iterator)  # type: ignore[arg-type]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._iterator, name)
