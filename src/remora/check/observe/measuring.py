"""Measure what is wanted at the calls of one function; nothing is read that nobody wants."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, NamedTuple, Protocol

from remora.check.calls import Call
from remora.check.measures import (
    AMOUNTS,
    BATCHES,
    COUNTERS,
    EPOCH,
    GRADIENT_NORM,
    LEARNING_RATE,
    LOSS,
    LOSSES,
    PARAMETER_NORM,
    SCALE,
    STEPS,
    UPDATE,
    ZERO_GRADIENTS,
    kind_of,
    loss_of,
    of,
)
from remora.check.observation import PARAMETER
from remora.check.observe.amounts import Losses, Rates, Scale
from remora.check.observe.counting import Batches, Count, Counting, epoch_of, steps_of
from remora.check.observe.moment import Moment
from remora.check.observe.readings import Readings
from remora.check.observe.sampling import Watching
from remora.check.observe.variables import Variables

EVERYTHING = "*"
_COUNTS: dict[str, Callable[[], Count]] = {
    STEPS: lambda: steps_of, BATCHES: Batches, EPOCH: lambda: epoch_of,
}  # fmt: skip
_NORMS = {GRADIENT_NORM, PARAMETER_NORM, UPDATE, ZERO_GRADIENTS}


class Meter(Protocol):
    """Reads numbers of the thing that a call is made on."""

    def before(self, thing: Any, moment: Moment) -> tuple[Readings, Any]:
        """What is read as the call begins, and what to keep until its end.

        What several read at one ``moment`` has to be read once only.
        """

    def after(self, thing: Any, before: Any, moment: Moment) -> Readings:
        """What is read once it has ended."""


class HasNumbers(Protocol):
    """What numbers are read of, where it is not the thing a call is made on."""

    variables: Variables
    losses: dict[str, Any]
    """The latest, by the function that returned it."""
    watching: Watching


class _Begun(NamedTuple):
    thing: Any
    readings: Readings
    kept: list[Any]


class Measuring:
    """Follows one function.

    Args:
        wanted: names of numbers, or ``{"*"}`` for all there are.
        remembers: tell by how much counters grew since the last call on the same thing; else,
            where calls may go unseen, in the call itself.
    """

    def __init__(
        self, function: str, wanted: Collection[str], live: HasNumbers, *, remembers: bool = True
    ) -> None:
        self._wanted, self._live, self._remembers = frozenset(wanted), live, remembers
        self._variables = live.variables
        kinds = {kind_of(name) for name in wanted}
        if EVERYTHING in wanted:
            kinds = {*AMOUNTS.get(function, ()), *filter(None, [COUNTERS.get(function)])}
        self._meters = list(self._made(kinds))
        self._version, self._modules = -1, dict[int, str]()

    def begin(self, call: Call, thing: Any, moment: Moment) -> None:
        """``call`` is about to be made on ``thing``."""
        if not self._live.watching.variables:
            return
        readings, kept = [], []
        for meter in self._meters:
            read, keep = meter.before(thing, moment)
            readings += read
            kept.append(keep)
        call.notes[self] = _Begun(thing, readings, kept)

    def end(self, call: Call, moment: Moment) -> Readings:
        begun = call.notes.pop(self, None)
        if begun is None:
            return []
        for meter, kept in zip(self._meters, begun.kept, strict=True):
            begun.readings.extend(meter.after(begun.thing, kept, moment))
        return begun.readings  # type: ignore[no-any-return]

    def _made(self, kinds: Collection[str]) -> Iterator[Meter]:
        if not _NORMS.isdisjoint(kinds):
            from remora.check.observe.norms import Norms  # torch is there by now

            modules = self._modules_of if self.asks_by_module else None
            yield Norms(self._variables, self._is_wanted, modules)
        if LEARNING_RATE in kinds:
            yield Rates()
        if LOSS in kinds:
            yield Losses(self._live.losses, losses_in(self._wanted))
        if SCALE in kinds:
            yield Scale()
        for name, count in _COUNTS.items():
            if name in kinds:
                yield Counting(name, count(), remembers=self._remembers)

    def _is_wanted(self, name: str) -> bool:
        return EVERYTHING in self._wanted or name in self._wanted

    @property
    def asks_by_module(self) -> bool:
        """Whether it has to know whose the parameters are."""
        start = of(GRADIENT_NORM, "")
        return EVERYTHING in self._wanted or any(name.startswith(start) for name in self._wanted)

    def _modules_of(self, optimizer: Any) -> Mapping[int, str]:
        """By a parameter's id, the module it belongs to, as the program calls it."""
        self._variables.meet(optimizer)
        if self._version != self._variables.version:
            self._version = self._variables.version
            self._modules = {
                id(one.get()): one.name.rpartition(".")[0]
                for one in self._variables.places(PARAMETER)
                if "[" not in one.name
            }
        return self._modules


def losses_in(wanted: Collection[str]) -> frozenset[str]:
    """The functions whose losses are wanted."""
    if EVERYTHING in wanted:
        return frozenset(LOSSES)
    return frozenset(filter(None, map(loss_of, wanted)))
