"""Many variables of one kind read at once: their elements as one row of numbers.

To look at a tensor costs some five microseconds however few its elements are, and a model has
hundreds. What lies on the host, and is of a dtype that numpy reckons with, is therefore read
together, and what is asked of each (its norm, whether it changed, whether it is finite) is reckoned
for all by a few calls of numpy. Of a small tensor every element is in the row; of a larger
one those that :mod:`remora.check.observe.contents` takes as its sample, in the same order.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Collection, Iterable, Sequence
from itertools import repeat
from operator import attrgetter, is_
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import numpy as np
import torch

from remora.check.observation import GRADIENT
from remora.check.observe.contents import (
    ELEMENTS_AT_A_PLACE,
    NUMPYS,
    PLACES,
    SMALL,
    has_finite_sum,
    is_plain,
    stride_of,
)
from remora.check.observe.moment import Moment
from remora.check.observe.places import Places

if TYPE_CHECKING:
    from remora.check.observe.variable import Variable

_BITS: dict[int, Any] = {4: np.dtype(np.int32), 8: np.dtype(np.int64)}
_UNREADABLE = (RuntimeError, ValueError, NotImplementedError)
"""Raised by what is lazy, sparse or fake."""
MOST_LAYOUTS = 16
"""So many different sets of variables that are there are known at a time."""

MOST_VIEWS = 16
_all = np.logical_and.reduce
"""As the method of arrays, which takes a detour through Python."""

Array = np.ndarray[Any, Any]
Place = tuple[int, int]
"""Where a tensor's elements lie, and how many bytes they take."""
Where = tuple[list[int], list[int]]
"""Of each tensor, where its elements lie; and how many bytes they take."""

# What is asked of each tensor is asked without a call of Python, since that is paid at every step.
_pointer, _is_contiguous = torch.Tensor.data_ptr, torch.Tensor.is_contiguous
_gradient, _bytes = attrgetter("grad"), attrgetter("nbytes")
_each_none = repeat(None)


class Layout:
    """Which variables are in a row, and where in it each is: small ones first.

    A *place* is the number of one in the row, its *slot* that among all variables that are read.
    """

    def __init__(self, slots: Sequence[int], bytes_of: Sequence[int], dtype: Any) -> None:
        item = dtype.itemsize
        self.order = sorted(range(len(slots)), key=lambda one: bytes_of[one] > SMALL * item)
        """By place, the position among the tensors that are there."""
        self.dtype, self.bits = dtype, _BITS[item]
        """Of the elements; and as integers, of which a NaN equals itself, and 0 is not -0."""
        sizes = [bytes_of[one] // item for one in self.order]
        read = [size if size <= SMALL else PLACES * ELEMENTS_AT_A_PLACE for size in sizes]
        self.slots = tuple(slots[one] for one in self.order)
        self.place_of = {slot: place for place, slot in enumerate(self.slots)}
        self.length = sum(read)
        self.begins = np.cumsum([0, *read])[:-1]
        self.ends = self.begins + read
        self.parts = list(zip(self.slots, self.begins.tolist(), self.ends.tolist(), strict=True))
        """Slot, begin and end of each."""
        self.shares = np.array(sizes) / np.array(read)
        """How many elements there are for each that is read."""
        self.small = sum(size <= SMALL for size in sizes)
        """How many are read whole."""
        self.length_of_small = sum(read[: self.small])
        self.large = self.slots[self.small :]
        self.probes = self.begins.copy()
        """An element of each, where it can be one that changed when last looked at."""


class _Known(NamedTuple):
    """Where tensors lay when last read."""

    where: Where
    views: list[Array]
    layout: Layout


class Row(msgspec.Struct, eq=False):
    """What was read."""

    numbers: Array
    layout: Layout
    _squares: Array | None = None

    @property
    def squares(self) -> Array:
        """Of each, the sum of the squares of its elements: not finite where one of them is not."""
        if self._squares is None:
            self._squares = self._summed(self.numbers)
        return self._squares

    def moved(self, before: Row) -> Array:
        """Of each, the sum of the squares of what was added since ``before``."""
        return self._summed(self.numbers - before.numbers)

    def differs(self, before: Row) -> Array | None:
        """Of each, whether any element read is another than ``before``; None: of all."""
        layout = self.layout
        now, then = self.numbers.view(layout.bits), before.numbers.view(layout.bits)
        found: Array = now.take(layout.probes) != then.take(layout.probes)
        if _all(found):
            return None
        for place in np.flatnonzero(~found):
            begin, end = layout.begins[place], layout.ends[place]
            other = now[begin:end] != then[begin:end]
            element = other.argmax()
            if other[element]:
                layout.probes[place], found[place] = begin + element, True
        return None if found.all() else found

    def differs_from(self, before: Row) -> Array | None:
        """As :meth:`differs`, where others were there: what was not there differs."""
        was = before.layout.place_of
        found = [
            (place := was.get(slot)) is None or before.bytes_of(place) != self.bytes_of(now)
            for now, slot in enumerate(self.layout.slots)
        ]
        return None if all(found) else np.array(found)

    def is_finite(self) -> Array | None:
        """Of each, whether every element read is; None: of all."""
        numbers = self.numbers
        if numbers.dtype.kind != "f" or (
            math.isfinite(np.maximum.reduce(numbers)) and math.isfinite(np.minimum.reduce(numbers))
        ):
            return None
        found = np.logical_and.reduceat(np.isfinite(self.numbers), self.layout.begins)
        return None if found.all() else found

    def is_zero(self) -> Array | None:
        """Of each, whether every element read is; None: of none."""
        found = ~np.logical_or.reduceat(self.numbers != 0, self.layout.begins)
        return found if found.any() else None

    def bytes_of(self, place: int) -> bytes:
        """The elements read of one, as a sample of it alone."""
        return self.numbers[self.layout.begins[place] : self.layout.ends[place]].tobytes()

    def _summed(self, numbers: Array) -> Array:
        found: Array = np.add.reduceat(np.square(numbers), self.layout.begins)
        return found


class Rows:
    """Reads variables of one kind and dtype, each a tensor that :func:`fits`."""

    def __init__(
        self, variables: Sequence[Variable], dtype: torch.dtype, places: Places | None = None
    ) -> None:
        self.variables, self.dtype = tuple(variables), dtype
        self._places = places if places is not None else Places(one.get for one in variables)
        self._of_gradients = variables[0].kind == GRADIENT
        self._slots = tuple(range(len(variables)))
        self._known: dict[tuple[int, ...], _Known] = {}
        self._views: list[dict[Place, Array]] = [{} for _ in variables]
        """By slot, where its elements lay lately."""
        self._wholes: dict[int, tuple[float, float]] = {}
        """By slot, squares of norms when all of it was last read: of all, and of what a row has."""
        self._nothing = Row(np.empty(0, NUMPYS[dtype]), Layout((), (), NUMPYS[dtype]))

    def of(self, names: Collection[str]) -> Rows | None:
        """What reads those of these ``names`` only; None if they are too few."""
        if len(names) == len(self.variables):
            return self
        within = [one for one in self.variables if one.name in names]
        return Rows(within, self.dtype) if len(within) > 1 else None

    def is_of(self, other: Rows) -> bool:
        """Whether it reads variables of the same names, as of gradients and their parameters."""
        return [one.name for one in self.variables] == [one.name for one in other.variables]

    def read(self, moment: Moment) -> Row | None:
        """Their elements now. What is read twice at one ``moment`` is read once.

        None if one of them is no such tensor any more.
        """
        if self in moment:
            return moment[self]  # type: ignore[no-any-return]
        there, slots = self.tensors(moment), self._slots
        if missing := sum(map(is_, there, _each_none)):
            if missing == len(there):
                return self._nothing
            slots = tuple([slot for slot, one in enumerate(there) if one is not None])
            there = [there[slot] for slot in slots]
        found = moment[self] = self._read(slots, there)
        return found

    def tensors(self, moment: Moment) -> list[Any]:
        """Those of the variables, by slot; None for one that is not there."""
        found = moment.get(self._places) or self.parameters(moment)
        if not self._of_gradients:
            return found
        try:
            return list(map(_gradient, found))
        except AttributeError:
            return [None if one is None else one.grad for one in found]

    def parameters(self, moment: Moment) -> list[Any]:
        """As :meth:`tensors`, but of gradients those of the parameters they are of."""
        if self._places not in moment:
            moment[self._places] = self._places.tensors()
        return moment[self._places]  # type: ignore[no-any-return]

    def _read(self, slots: tuple[int, ...], there: list[Any]) -> Row | None:
        try:
            where = list(map(_pointer, there)), list(map(_bytes, there))
            known = self._known.get(slots)
            if known is None or known.where != where:
                known = self._meet(slots, there, where)
        except _UNREADABLE:
            return None
        if known is None:
            return None
        _, views, layout = known
        numbers = np.empty(layout.length, layout.dtype)
        if layout.small:  # one of none would raise
            np.concatenate(views[: layout.small], out=numbers[: layout.length_of_small])
        if layout.small < len(views):
            rest = numbers[layout.length_of_small :].reshape(-1, ELEMENTS_AT_A_PLACE)
            np.concatenate(views[layout.small :], out=rest)
        return Row(numbers, layout)

    def is_finite_throughout(self, row: Row, place: int, tensor: torch.Tensor) -> bool:
        """Read all of a large one, of which ``row`` has a sample; whether it is sure to be finite.

        Of gradients it is remembered how the norm of all goes with that of the sample.
        """
        if not self._of_gradients:
            return has_finite_sum(tensor)
        square = _square_of(tensor)
        self._wholes[row.layout.slots[place]] = square, float(row.squares[place])
        return math.isfinite(square)

    def squares(self, row: Row, moment: Moment) -> Array:
        """Of each, the square of the norm of all its elements.

        The few rows that a classifier or an embedding learns of in a step make up most of their
        gradient, and a sample may meet any number of them. So all of a large one is read, or has
        been as backward left it: then the norm is as many times what it was as that of the sample.
        """
        layout, found = row.layout, row.squares.copy()
        tensors = self.tensors(moment) if layout.large else []
        for place, slot in enumerate(layout.large, layout.small):
            whole, read = self._wholes.pop(slot, (0.0, 0.0))
            if 0 < read < math.inf and whole < math.inf:
                found[place] *= whole / read
            else:
                found[place] = _square_of(tensors[slot])
        return found

    def unfit(self) -> list[Variable]:
        """Those that cannot be read in a row any more."""
        each = zip(self.variables, self.tensors(Moment()), strict=True)
        return [one for one, tensor in each if tensor is not None and not self._fits(tensor)]

    def _fits(self, tensor: Any) -> bool:
        return fits(tensor) and tensor.dtype is self.dtype

    def _meet(self, slots: tuple[int, ...], tensors: Sequence[Any], where: Where) -> _Known | None:
        """They do not lie where they lay. A gradient is a new tensor at every step."""
        if not all(map(_is_contiguous, tensors)):
            return None
        (pointers, sizes), before = where, self._known.get(slots)
        if before is not None and before.where[1] == sizes:
            layout = before.layout
        else:
            layout = Layout(slots, sizes, NUMPYS[self.dtype])
        views: list[Array] = []
        for slot, position in zip(layout.slots, layout.order, strict=True):
            place, known = (pointers[position], sizes[position]), self._views[slot]
            if (view := known.get(place)) is None:
                tensor = tensors[position]
                if not (place[1] and tensor.dtype is self.dtype and is_plain(tensor)):
                    return None
                if len(known) >= MOST_VIEWS:
                    known.clear()
                view = known[place] = _view(place, layout.dtype)
            views.append(view)
        if len(self._known) >= MOST_LAYOUTS:
            self._known.clear()
        self._known[slots] = found = _Known(where, views, layout)
        return found


def _square_of(tensor: torch.Tensor) -> float:
    """Of its norm."""
    return float(torch.linalg.vector_norm(tensor.detach()).item()) ** 2


def fits(tensor: Any) -> bool:
    """Whether it can be read in a row."""
    return (
        isinstance(tensor, torch.Tensor)
        and is_plain(tensor)
        and tensor.dtype in NUMPYS
        and bool(tensor.nbytes)
    )


def by_dtype(variables: Iterable[Variable]) -> dict[torch.dtype, list[Variable]]:
    """Those that can be read in rows, as far as there are several of a dtype."""
    found: dict[torch.dtype, list[Variable]] = {}
    for one in variables:
        tensor = one.get()
        if fits(tensor):
            found.setdefault(tensor.dtype, []).append(one)
    return {dtype: alike for dtype, alike in found.items() if len(alike) > 1}


def _view(place: Place, kind: Any) -> Array:
    """The elements where they lie, of a large tensor those of the sample: a row for each place."""
    pointer, size = place
    memory: Any = (ctypes.c_char * size).from_address(pointer)
    if size <= SMALL * kind.itemsize:
        return np.ndarray((size // kind.itemsize,), kind, memory)
    strides = stride_of(size, ELEMENTS_AT_A_PLACE * kind.itemsize), kind.itemsize
    return np.ndarray((PLACES, ELEMENTS_AT_A_PLACE), kind, memory, strides=strides)
