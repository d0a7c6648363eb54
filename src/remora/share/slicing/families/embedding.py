"""Looking up rows of a table, and the table's gradient."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from remora.share.slicing.call import Call
from remora.share.slicing.contract import Axis, Part, Slicer

aten = torch.ops.aten
COLUMNS = 16
"""Columns between places where a range may begin: a cache line of float32."""


def slicers() -> dict[str, Slicer]:
    """By the name of their overload."""
    return {
        "aten.embedding.default": embedding,
        "aten.embedding_dense_backward.default": embedding_dense_backward,
    }


def embedding(call: Call) -> Sequence[Part]:
    """Rows that are looked up."""
    indices, output, table = call["indices"], call.out, call["weight"]
    if not (indices.is_contiguous() and output.is_contiguous() and table.dim() == 2):
        return ()
    places, rows = indices.reshape(-1), output.view(-1, output.shape[-1])

    def run(begin: int, end: int) -> None:
        torch.index_select(table, 0, places[begin:end], out=rows[begin:end])

    return [Part("output", (output,), (Axis("rows", rows.shape[0], run),))]


def embedding_dense_backward(call: Call) -> Sequence[Part]:
    """Rows of the table, each with the gradients that belong there in the order they come; or
    columns. Rows are filled in place, so nothing is written twice."""
    output, padding = call.out, call["padding_idx"]
    if call["scale_grad_by_freq"]:
        return ()
    places = call["indices"].reshape(-1)
    gradient = call["grad_output"].reshape(-1, output.shape[1])

    def rows(begin: int, end: int) -> None:
        here = ((places >= begin) & (places < end) & (places != padding)).nonzero().squeeze(1)
        piece = output[begin:end].zero_()
        if here.numel():
            piece.index_add_(0, places[here] - begin, gradient[here])

    def columns(begin: int, end: int) -> None:
        own = {"grad_output": gradient[:, begin:end], "indices": places}
        output[:, begin:end].copy_(call.operator(**{**call.values, **own}))

    by_column = Axis("columns", output.shape[1], columns, COLUMNS)
    return [Part("output", (output,), (Axis("rows", output.shape[0], rows), by_column))]
