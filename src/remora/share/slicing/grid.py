"""Axes over the cells of a grid: where no axis alone is fine enough, or cheap enough."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from remora.share.slicing.contract import Axis

Cells = Callable[[slice, slice], object]
"""Compute what belongs to these indices of the one dimension and those of the other."""
Blocks = Callable[[slice, slice, slice], object]
"""Add to these indices of the first two dimensions what belongs to those of the third; the first of
these is not added to anything."""


def grid(name: str, extents: tuple[int, int], cell: tuple[int, int], run: Cells) -> Axis:
    """Cells of a size of ``cell`` in a grid of ``extents``, line by line.

    Cells of one line that come together are computed together. Those at the ends of a line, and the
    last line, take what is left over.
    """
    return blocks(name, (*extents, 1), (*cell, 1), lambda high, wide, deep: run(high, wide))


def blocks(
    name: str, extents: tuple[int, int, int], cell: tuple[int, int, int], run: Blocks
) -> Axis:
    """Cells of a grid of three dimensions: one layer of the third after another, each as above.

    What is left over of the third dimension is a layer of its own: sums over fewer come in the
    order of the whole, sums over more may not.
    """
    high, wide = max(1, extents[0] // cell[0]), max(1, extents[1] // cell[1])
    layers = max(1, -(-extents[2] // cell[2]))

    def cells(begin: int, end: int) -> None:
        for line, first, last in _lines(begin, end, wide):
            layer, row = divmod(line, high)
            run(
                slice(row * cell[0], extents[0] if row == high - 1 else (row + 1) * cell[0]),
                slice(first * cell[1], extents[1] if last == wide else last * cell[1]),
                slice(layer * cell[2], min(extents[2], (layer + 1) * cell[2])),
            )

    return Axis(name, layers * high * wide, cells)


def _lines(begin: int, end: int, width: int) -> Iterator[tuple[int, int, int]]:
    """The indices from ``begin`` to before ``end`` in lines of ``width``: which line, from where in
    it to before where."""
    for line in range(begin // width, -(-end // width)):
        yield line, max(begin - line * width, 0), min(end - line * width, width)
