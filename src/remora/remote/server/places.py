"""Where the values of a run lie: memories first, then views of them, and constants."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from remora.remote.segment.plan import Made, Scalar, Seen, given_in, seen_in
from remora.remote.segment.validation import Step
from remora.remote.server.layout import view_of
from remora.remote.server.memories import Memories

Values = list[Any]
View = tuple[int, int, Seen]
"""A place, the memory that is looked at, and how."""


class Places:
    """Those of one plan."""

    def __init__(self, memories: Memories) -> None:
        self._memories = memories
        self._constants: Values = []
        self._scalars = [self.constant(None) for _ in range(memories.scalars)]
        self._places: dict[int, dict[Seen, int]] = {}
        """For each memory the places of its views."""
        self._views: list[list[View]] = []
        """For each step the views that nobody before it has looked through."""

    def values(
        self, inputs: Sequence[torch.Tensor | None], scalars: Sequence[float] = ()
    ) -> Values:
        """The values before the first step."""
        values: Values = [None] * self._memories.count + self._constants
        for slot, memory in zip(self._memories.input_slots, inputs, strict=True):
            values[slot] = memory
        for place, scalar in zip(self._scalars, scalars, strict=True):
            values[place] = scalar
        return values

    def look(self, step: int, values: Values) -> None:
        """Make the views that the step is the first to look through, where there is anything."""
        for place, slot, seen in self._views[step]:
            if values[slot] is not None:
                values[place] = view_of(values[slot], seen)

    def views_of(self, step: Step) -> tuple[list[int], list[View]]:
        """Where the tensors of ``step``, the next, lie; and the views that are yet to be made."""
        places: list[int] = []
        views: list[View] = []
        for slot, seen in zip(step.read, seen_in(step.signature), strict=True):
            place, is_new = self._place_of(slot, seen)
            places.append(place)
            if is_new:
                views.append((place, slot, seen))
        self._views.append(views)
        return places, views

    def in_order(self, step: Step, tensors: Sequence[int]) -> list[int]:
        """Where all lies that ``step`` is given, in order; ``tensors``: where its tensors do."""
        places, scalars = iter(tensors), (self._scalars[scalar] for scalar in step.scalars)
        given = given_in(step.signature)
        return [next(scalars if isinstance(each, Scalar) else places) for each in given]

    def _place_of(self, slot: int, seen: Seen) -> tuple[int, bool]:
        """Where the tensor lies that looks at ``slot`` so, and whether it has yet to be made."""
        whole = Made(seen.dtype, seen.sizes, seen.strides)
        if self._memories.made.get(slot) == whole and not seen.offset:
            return slot, False
        views = self._places.setdefault(slot, {})
        place = views.get(seen)
        if place is not None:
            return place, False
        views[seen] = place = self.constant(None)
        return place, True

    def constant(self, value: Any) -> int:
        """A place that holds ``value``."""
        self._constants.append(value)
        return self._memories.count + len(self._constants) - 1

    def places_in(self, slots: Sequence[int]) -> list[int]:
        """All places through which ``slots`` are looked at, and themselves."""
        views = [place for slot in slots for place in self._places.get(slot, {}).values()]
        return [*slots, *views]
