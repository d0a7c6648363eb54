"""The contract of a slicing: the parts of a call, and the axes along which each can be cut.

A slicer is a function that takes a :class:`~remora.share.slicing.call.Call`, whose outputs are
allocated, and says of which parts it is made. Parts run one after another; each writes its own
tensors. A part has axes to choose from; an axis runs any range of its indices and writes what
belongs to that range, nothing else. All ranges of one axis together write all of the part. They run
in order, each once: a later one may go on with what an earlier one has written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeAlias

import torch
from msgspec import Struct

from remora.core.errors import BadValue
from remora.share.slicing.call import Call

Run: TypeAlias = Callable[[int, int], object]
"""Compute the indices from the first to before the second."""


class Axis(Struct, frozen=True):
    """One way to cut a part: ``extent`` indices, in ranges that begin at multiples of ``grain``.

    What is left behind the last whole grain goes to the last range: none is shorter than a grain,
    because libraries compute a few rows in another order than many.
    """

    name: str
    extent: int
    run: Run
    grain: int = 1

    @property
    def most(self) -> int:
        """The largest number of pieces."""
        return max(1, self.extent // self.grain)

    def ranges(self, pieces: int) -> Iterator[tuple[int, int]]:
        """The ranges of ``pieces`` pieces, as even as the grain allows, in order.

        Raises:
            BadValue: fewer than one piece, or more than there are.
        """
        if not 1 <= pieces <= self.most:
            raise BadValue(f"axis {self.name} cannot be {pieces} pieces; choose 1 to {self.most}")
        bounds = [self.most * at // pieces * self.grain for at in range(pieces)]
        return zip(bounds, [*bounds[1:], self.extent], strict=True)


class Part(Struct, frozen=True):
    """What one pass of an operator writes, and the ways to cut that pass."""

    name: str
    writes: tuple[torch.Tensor, ...]
    axes: tuple[Axis, ...]
    """At least one. Of one with a single index the part always runs whole."""
    prepares: bool = False
    """Whether parts behind it are measured with this one done before them."""

    def axis(self, name: str) -> Axis:
        """The one called ``name``.

        Raises:
            BadValue: it has no such axis.
        """
        for axis in self.axes:
            if axis.name == name:
                return axis
        names = ", ".join(axis.name for axis in self.axes)
        raise BadValue(f"part {self.name} has no axis {name!r}; choose from: {names}")


Slicer: TypeAlias = Callable[[Call], Sequence[Part]]
"""No parts for a call that cannot be cut; the registry then runs it whole."""

WHOLE = "whole"


def uncut(name: str, writes: tuple[torch.Tensor, ...], run: Callable[[], object]) -> Part:
    """A part that runs at once."""
    return Part(name, writes, (Axis(WHOLE, 1, lambda begin, end: run()),))
