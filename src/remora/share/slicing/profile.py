"""What is known of one call: how to cut it, what that takes, and what was not the same, cut."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated

from msgspec import Meta, Struct, field

from remora.share.policies.contract import Cut, Nanoseconds
from remora.share.slicing.contract import Axis, Part
from remora.share.slicing.outputs import Layouts

Count = Annotated[int, Meta(ge=1)]


class Choice(Struct, frozen=True):
    """How one part is cut: along which axis, into how many pieces, and what was measured."""

    axis: str
    pieces: Count
    piece_ns: Nanoseconds
    """The longest piece, each taken at the shortest of its timed runs."""
    total_ns: Nanoseconds
    """All pieces of it."""
    difference: float = 0.0
    """The largest absolute difference from the whole; 0 where it is bit-identical."""


class Profile(Struct, frozen=True):
    """The chosen cut of a call."""

    whole_ns: Nanoseconds
    turnaround_ns: Nanoseconds
    layouts: Layouts = ()
    choices: tuple[Choice, ...] = ()
    """One for each part; none for a call that runs whole."""
    reason: str = ""
    """Why it runs whole, or cannot be cut as fine as the bound; empty where it keeps the bound."""
    inexact: dict[str, float] = field(default_factory=dict)
    """Axes that are not bit-identical, as ``part, axis``, and the largest absolute difference."""

    @property
    def pieces(self) -> int:
        """Of all parts together."""
        return sum(choice.pieces for choice in self.choices) or 1

    @property
    def piece_ns(self) -> int:
        """The longest piece."""
        return max((choice.piece_ns for choice in self.choices), default=self.whole_ns)

    @property
    def total_ns(self) -> int:
        """All pieces."""
        return sum(choice.total_ns for choice in self.choices) or self.whole_ns

    @property
    def keeps_bound(self) -> bool:
        """Whether no piece takes longer than the wanted turnaround."""
        return self.piece_ns <= self.turnaround_ns

    @property
    def difference(self) -> float:
        """The largest absolute difference from the whole; 0 where all is bit-identical."""
        return max((choice.difference for choice in self.choices), default=0.0)

    def cuts(self) -> tuple[Cut, ...]:
        """As :class:`~remora.share.policies.contract.Unit` wants them; none where it runs whole."""
        return (Cut(self.pieces, self.piece_ns),) if self.pieces > 1 else ()


def chosen(profile: Profile, parts: Sequence[Part]) -> list[Axis]:
    """The axis of each part along which it is cut."""
    return [part.axis(choice.axis) for part, choice in zip(parts, profile.choices, strict=True)]


def located(profile: Profile, axes: Sequence[Axis]) -> list[tuple[int, int, int]]:
    """Every piece in order: the place of its part, and its range of indices."""
    return [
        (place, begin, end)
        for place, (axis, choice) in enumerate(zip(axes, profile.choices, strict=True))
        for begin, end in axis.ranges(choice.pieces)
    ]


def told(differences: Mapping[str, float]) -> str:
    """``rows (largest difference 1.2e-07), …``."""
    return ", ".join(f"{name} (largest difference {d:.1e})" for name, d in differences.items())
