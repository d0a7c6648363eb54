"""An axis over the cells of a grid: what is left where neither of two axes alone is fine enough."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from remora.share.slicing.contract import Axis

Cells = Callable[[slice, slice], object]
"""Compute what belongs to these indices of the one dimension and those of the other."""


def grid(name: str, extents: tuple[int, int], cell: tuple[int, int], run: Cells) -> Axis:
    """Cells of a size of ``cell`` in a grid of ``extents``, line by line.

    Cells of one line that come together are computed together. Those at the ends of a line, and the
    last line, take what is left over.
    """
    high, wide = (max(1, extent // size) for extent, size in zip(extents, cell, strict=True))

    def cells(begin: int, end: int) -> None:
        for line, first, last in _lines(begin, end, wide):
            run(
                slice(line * cell[0], extents[0] if line == high - 1 else (line + 1) * cell[0]),
                slice(first * cell[1], extents[1] if last == wide else last * cell[1]),
            )

    return Axis(name, high * wide, cells)


def _lines(begin: int, end: int, width: int) -> Iterator[tuple[int, int, int]]:
    """The indices from ``begin`` to before ``end`` in lines of ``width``: which line, from where in
    it to before where."""
    for line in range(begin // width, -(-end // width)):
        yield line, max(begin - line * width, 0), min(end - line * width, width)
