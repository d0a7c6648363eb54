"""Make a DataLoader's iterator begin in the middle of an epoch, its skipped batches not loaded."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils.data import DataLoader

from remora.checkpoint.state.rng import capture_rng, restore_rng
from remora.core.errors import StateMismatch


class Draws:
    """Every generator that a loader's samplers may draw from: the global ones and its own."""

    def __init__(self, loader: DataLoader[Any]) -> None:
        holders = {
            "loader": loader,
            "sampler": loader.sampler,
            "batch_sampler": loader.batch_sampler,
            "inner_sampler": getattr(loader.batch_sampler, "sampler", None),
        }
        self.own: dict[str, torch.Generator] = {}
        for name, holder in holders.items():
            generator = getattr(holder, "generator", None)
            known = any(generator is other for other in self.own.values())
            if isinstance(generator, torch.Generator) and not known:
                self.own[name] = generator
        self._seeds_from = loader.generator

    def capture(self) -> dict[str, Any]:
        """Their states now; ``own`` are the loader's and its samplers' generators."""
        return {"global": capture_rng(cuda=None), "own": self.capture_own()}

    def capture_own(self) -> dict[str, torch.Tensor]:
        return {name: generator.get_state() for name, generator in self.own.items()}

    def restore(self, state: dict[str, Any]) -> None:
        """Put them back."""
        restore_rng(state["global"], cuda=None)
        self.restore_own(state["own"])

    def restore_own(self, states: dict[str, torch.Tensor]) -> None:
        for name, generator in self.own.items():
            if name in states:
                generator.set_state(states[name].cpu())

    def draw_base_seed(self) -> None:
        """Draw as a new iterator does for its workers' seed."""
        torch.empty((), dtype=torch.int64).random_(generator=self._seeds_from)


@contextmanager
def skipping(
    loader: DataLoader[Any], count: int, before: Callable[[Any], None]
) -> Iterator[SkippedIndices]:
    """While this is open, an iterator made of ``loader`` leaves out its first ``count`` batches.

    Their indices are drawn and dropped, so that the order of the rest is the same; nothing is
    loaded. ``before`` is called with the sampler each time before its iteration begins.
    """
    name = "sampler" if loader.batch_sampler is None else "batch_sampler"
    original = vars(loader)[name]
    indices = SkippedIndices(original, count, before)
    vars(loader)[name] = indices  # the loader refuses a plain assignment
    standing = loader._iterator
    if standing is not None:
        standing._index_sampler = indices
    try:
        yield indices
    finally:
        vars(loader)[name] = original
        for iterator in (standing, loader._iterator):
            if iterator is not None:
                iterator._index_sampler = original


class SkippedIndices:
    """Stands in for a loader's sampler while one iterator is made."""

    def __init__(self, sampler: Any, count: int, before: Callable[[Any], None]) -> None:
        self._sampler, self._count, self._before = sampler, count, before
        self._made: _Skipped | None = None

    def __iter__(self) -> Iterator[Any]:
        self._before(self._sampler)
        self._made = _Skipped(iter(self._sampler), self._count)
        return self._made

    def settle(self) -> None:
        """Draw and drop now. Without workers an iterator asks for indices only when it is used."""
        if self._made is not None:
            self._made.skip()

    def __len__(self) -> int:
        return len(self._sampler)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sampler, name)


class _Skipped:
    """``indices`` without the first ``count``, which are drawn when the first is asked for."""

    def __init__(self, indices: Iterator[Any], count: int) -> None:
        self._indices, self._count = indices, count

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        self.skip()
        return next(self._indices)

    def skip(self) -> None:
        count, self._count = self._count, 0
        for skipped in range(count):
            try:
                next(self._indices)
            except StopIteration:
                raise StateMismatch(
                    f"the checkpoint is {count} batches into its epoch, but the loader now gives "
                    f"{skipped}; restore with the same data, batch size and sampler"
                ) from None
