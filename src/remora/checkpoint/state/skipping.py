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

    def restore(self, state: dict[str, Any], *, own: bool = True) -> None:
        """Put them back, the loader's own only if ``own``."""
        restore_rng(state["global"], cuda=None)
        if own:
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
    loader: DataLoader[Any], count: int, draws: Draws, *, draws_base_seed: bool
) -> Iterator[SkippedIndices]:
    """While this is open, an iterator made of ``loader`` leaves out its first ``count`` batches.

    Their indices are drawn and dropped, so that the order of the rest is the same; nothing is
    loaded. With workers the iterator asks for indices at once, without them only when the first
    batch is wanted: :meth:`SkippedIndices.settle` leaves nothing to be done then.
    ``draws_base_seed`` says whether the epoch that is continued drew a seed for its workers
    before its indices: a persistent iterator does so in its first epoch only.
    """
    name = "sampler" if loader.batch_sampler is None else "batch_sampler"
    original = vars(loader)[name]
    indices = SkippedIndices(original, count, draws, draws_base_seed=draws_base_seed)
    vars(loader)[name] = indices  # the loader refuses a plain assignment
    standing = getattr(loader, "_iterator", None)
    if standing is not None:
        standing._index_sampler = indices
    try:
        yield indices
    finally:
        vars(loader)[name] = original
        for iterator in (standing, getattr(loader, "_iterator", None)):
            if iterator is not None:
                iterator._index_sampler = original


class SkippedIndices:
    """Stands in for a loader's sampler while one iterator is made."""

    def __init__(self, sampler: Any, count: int, draws: Draws, *, draws_base_seed: bool) -> None:
        self._sampler, self._count = sampler, count
        self._draws, self._draws_base_seed = draws, draws_base_seed
        self._advance = _Once(lambda: None)

    def __iter__(self) -> Iterator[Any]:
        """The sampler's own iterator, to be advanced when the first index is asked for.

        Between the two, an iterator that is new draws the workers' seed and one that is reset
        does not; what this one does is undone, and what the epoch's own did is done.
        """
        inner = iter(self._sampler)
        before_base_seed = self._draws.capture()

        def advance() -> None:
            self._draws.restore(before_base_seed)
            if self._draws_base_seed:
                self._draws.draw_base_seed()
            for skipped in range(self._count):
                try:
                    next(inner)
                except StopIteration:
                    raise StateMismatch(
                        f"the checkpoint is {self._count} batches into its epoch, but the loader "
                        f"now gives {skipped}; restore with the same data, batch size and sampler"
                    ) from None

        self._advance = _Once(advance)
        return _Advanced(inner, self._advance)

    def settle(self) -> None:
        """Draw and drop now, unless that was done; with none to drop, leave all draws alone."""
        if self._count:
            self._advance()
        else:
            self._advance.cancel()

    def __len__(self) -> int:
        return len(self._sampler)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sampler, name)


class _Once:
    """A call that is made at most once."""

    def __init__(self, call: Callable[[], None]) -> None:
        self._call: Callable[[], None] | None = call

    def __call__(self) -> None:
        call, self._call = self._call, None
        if call is not None:
            call()

    def cancel(self) -> None:
        self._call = None


class _Advanced:
    """``inner``, from where ``advance`` leaves it."""

    def __init__(self, inner: Iterator[Any], advance: _Once) -> None:
        self._inner, self._advance = inner, advance

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        self._advance()
        return next(self._inner)
