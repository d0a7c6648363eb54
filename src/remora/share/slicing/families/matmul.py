"""Products of matrices: rows of the left one, columns of the right one, or batches."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from remora.share.slicing.call import Call
from remora.share.slicing.contract import Axis, Part, Run, Slicer
from remora.share.slicing.grid import Blocks, blocks

aten = torch.ops.aten
COLUMNS = 16
"""Columns between places where a range may begin: a cache line of float32."""
ROWS = 16
"""Rows between places where a range may begin: few rows are added in another order than many."""
TILES = ((256, 128), (192, 96), (32, 16))
"""Rows and columns of a tile. Large ones read less than rows or columns of as many elements; small
ones are what is left where nothing else is short enough."""
BLOCKS = ((512, 384, 192), (256, 384, 192), (128, 192, 192))
"""Rows, columns, and how many of the inner dimension: the cheapest where that is long, as a piece
then reads the least for what it computes. Libraries add up so many of the inner dimension at a
time, 192 or 384 of single precision, and go on from what they have in memory; so pieces that do the
same give the same."""
_TILES = {f"tiles of {high} by {wide}": (high, wide) for high, wide in TILES}
_BLOCKS = {
    f"blocks of {high} by {wide} by {deep}": (high, wide, deep) for high, wide, deep in BLOCKS
}
PAGE_BYTES = 4096
TOUCHED_BYTES = 4 << 20
"""From which size on memory comes from the system each time, and not from what was used before."""
Multiply = Callable[[Tensor, Tensor, Tensor], object]
"""left (m, k), right (k, n), into (m, n); or each with the same batches before."""


def slicers() -> dict[str, Slicer]:
    """By the name of their overload."""
    return {
        "aten.mm.default": mm,
        "aten.addmm.default": addmm,
        "aten.bmm.default": bmm,
        "aten.baddbmm.default": baddbmm,
        "aten.linear.default": linear,
        "aten.matmul.default": matmul,
    }


def mm(call: Call) -> Sequence[Part]:
    """(m, k) by (k, n)."""
    return _product(call["self"], call["mat2"], call.out)


def matmul(call: Call) -> Sequence[Part]:
    """As :func:`mm`, :func:`bmm`, or rows of many matrices by one."""
    left, right, output = call["self"], call["other"], call.out
    if left.dim() >= 2 and right.dim() == 2:
        if not (left.is_contiguous() and output.is_contiguous()):
            return ()
        return _product(left.flatten(0, -2), right, output.flatten(0, -2))
    if left.dim() == right.dim() == 3 and left.shape[0] == right.shape[0]:
        return _batches(left, right, output, lambda a, b, o: aten.bmm.out(a, b, out=o))
    return ()


def _product(left: Tensor, right: Tensor, output: Tensor) -> Sequence[Part]:
    def rows(begin: int, end: int) -> None:
        aten.mm.out(left[begin:end], right, out=output[begin:end])

    def columns(begin: int, end: int) -> None:
        aten.mm.out(left, right[:, begin:end], out=output[:, begin:end])

    def block(high: slice, wide: slice, deep: slice) -> None:
        into = output[high, wide]
        if deep.start == 0:
            aten.mm.out(left[high, deep], right[deep, wide], out=into)
        else:
            aten.addmm.out(into, left[high, deep], right[deep, wide], out=into)

    return _in_rows_or_columns(output, left.shape[1], rows, columns, block)


def addmm(call: Call) -> Sequence[Part]:
    """A bias of one row stays one: torch has a way of its own for it."""
    bias, left, right, output = call["self"], call["mat1"], call["mat2"], call.out
    scales = {"beta": call["beta"], "alpha": call["alpha"]}

    def rows(begin: int, end: int) -> None:
        own = bias[begin:end] if bias.dim() == 2 and bias.shape[0] != 1 else bias
        aten.addmm.out(own, left[begin:end], right, **scales, out=output[begin:end])

    def columns(begin: int, end: int) -> None:
        own = bias[..., begin:end] if bias.dim() and bias.shape[-1] != 1 else bias
        aten.addmm.out(own, left, right[:, begin:end], **scales, out=output[:, begin:end])

    def block(high: slice, wide: slice, deep: slice) -> None:
        into, given, factors = output[high, wide], left[high, deep], right[deep, wide]
        if deep.start:
            aten.addmm.out(into, given, factors, alpha=call["alpha"], out=into)
            return
        own = bias[high] if bias.dim() == 2 and bias.shape[0] != 1 else bias
        own = own[..., wide] if bias.dim() and bias.shape[-1] != 1 else own
        aten.addmm.out(own, given, factors, **scales, out=into)

    return _in_rows_or_columns(output, left.shape[1], rows, columns, block)


def linear(call: Call) -> Sequence[Part]:
    """``(…, k)`` by a weight of (n, k): rows of all that comes before k, or outputs."""
    source, weight, bias, output = call["input"], call["weight"], call["bias"], call.out
    if source.dim() < 2 or not (source.is_contiguous() and output.is_contiguous()):
        return ()
    given, into = source.flatten(0, -2), output.flatten(0, -2)

    def rows(begin: int, end: int) -> None:
        aten.linear.out(given[begin:end], weight, bias, out=into[begin:end])

    def columns(begin: int, end: int) -> None:
        own = None if bias is None else bias[begin:end]
        aten.linear.out(given, weight[begin:end], own, out=into[:, begin:end])

    def block(high: slice, wide: slice, deep: slice) -> None:
        target = into[high, wide]
        if deep.start:
            aten.addmm.out(target, given[high, deep], weight[wide, deep].T, out=target)
        else:
            own = None if bias is None else bias[wide]
            aten.linear.out(given[high, deep], weight[wide, deep], own, out=target)

    return _in_rows_or_columns(into, given.shape[1], rows, columns, block)


def _in_rows_or_columns(
    output: Tensor, inner: int, rows: Run, columns: Run, block: Blocks
) -> Sequence[Part]:
    height, width = output.shape
    extents = (height, width, inner)
    axes = [
        Axis("rows", height, rows, ROWS),
        Axis("columns", width, columns, COLUMNS),
        *(blocks(name, extents, cell, block) for name, cell in _BLOCKS.items() if inner > cell[2]),
        *(blocks(name, extents, (*cell, inner), block) for name, cell in _TILES.items()),
    ]
    return [*touched(output), Part("output", (output,), tuple(axes))]


def touched(output: Tensor) -> list[Part]:
    """Have the system give the memory of a large output, page by page.

    Otherwise the first few columns do, which reach into every page, and take as long as that takes.
    """
    size = output.element_size()
    if output.numel() * size < TOUCHED_BYTES or not output.is_contiguous():
        return []
    pages = output.view(-1)[:: PAGE_BYTES // size]
    axis = Axis("pages", pages.shape[0], lambda begin, end: pages[begin:end].zero_(), 64)
    return [Part("memory", (), (axis,), prepares=True)]


def bmm(call: Call) -> Sequence[Part]:
    """(b, m, k) by (b, k, n)."""
    return _batches(call["self"], call["mat2"], call.out, lambda a, b, o: aten.bmm.out(a, b, out=o))


def baddbmm(call: Call) -> Sequence[Part]:
    """Along the batch: what is added is expanded to all of it, as torch does."""
    output = call.out
    added = call["self"].expand(output.shape)
    scales = {"beta": call["beta"], "alpha": call["alpha"]}

    def batch(begin: int, end: int) -> None:
        aten.baddbmm.out(
            added[begin:end], call["batch1"][begin:end], call["batch2"][begin:end],
            **scales, out=output[begin:end],
        )  # fmt: skip

    return [Part("output", (output,), (Axis("batch", output.shape[0], batch),))]


def _batches(left: Tensor, right: Tensor, output: Tensor, multiply: Multiply) -> Sequence[Part]:
    def batch(begin: int, end: int) -> None:
        multiply(left[begin:end], right[begin:end], output[begin:end])

    def rows(begin: int, end: int) -> None:
        multiply(left[:, begin:end], right, output[:, begin:end])

    def columns(begin: int, end: int) -> None:
        multiply(left, right[..., begin:end], output[..., begin:end])

    axes = (
        Axis("batch", output.shape[0], batch),
        Axis("rows", output.shape[1], rows, ROWS),
        Axis("columns", output.shape[2], columns, COLUMNS),
    )
    return [Part("output", (output,), axes)]
