"""Scaled dot-product attention as one operator, on a CPU."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from remora.share.slicing.call import Call
from remora.share.slicing.contract import Axis, Part, Slicer

ROWS = 64
"""Query rows between places where a range may begin."""


def slicers() -> dict[str, Slicer]:
    """By the name of their overload."""
    name = "aten._scaled_dot_product_flash_attention_for_cpu"
    return {f"{name}.default": forward, f"{name}_backward.default": backward}


def forward(call: Call) -> Sequence[Part]:
    """Batches, heads, and query rows: these only where a row does not say which keys it sees."""
    if call["dropout_p"]:
        return ()
    axes = [_axis(call, "batch", 0, ("query", "key", "value"))]
    if call["query"].shape[1] == call["key"].shape[1]:
        axes.append(_axis(call, "heads", 1, ("query", "key", "value")))
    if not call["is_causal"]:
        axes.append(_axis(call, "query rows", 2, ("query",), ROWS))
    return [Part("output", tuple(call.outputs), tuple(axes))]


def backward(call: Call) -> Sequence[Part]:
    """Batches and heads: the gradients of keys and values are sums over the queries."""
    if call["dropout_p"] or call["query"].shape[1] != call["key"].shape[1]:
        return ()
    names = ("grad_out", "query", "key", "value", "out", "logsumexp")
    axes = (_axis(call, "batch", 0, names), _axis(call, "heads", 1, names))
    return [Part("gradients", tuple(call.outputs), axes)]


def _axis(call: Call, name: str, dim: int, names: Sequence[str], grain: int = 1) -> Axis:
    def run(begin: int, end: int) -> None:
        own = {each: _narrowed(call[each], dim, begin, end) for each in names}
        mask = call["attn_mask"]
        if mask is not None:
            own["attn_mask"] = _of_mask(mask, dim, begin, end)
        made = call.operator(**{**call.values, **own})
        for place, piece in enumerate(made):
            _narrowed(call.outputs[place], dim, begin, end).copy_(piece)

    return Axis(name, call["query"].shape[dim], run, grain)


def _narrowed(tensor: Tensor, dim: int, begin: int, end: int) -> Tensor:
    return tensor.narrow(dim, begin, end - begin)


def _of_mask(mask: Tensor, dim: int, begin: int, end: int) -> Tensor:
    """A mask is (rows, keys) or (batch, heads, rows, keys); what is 1 holds for all."""
    own = dim - 4 + mask.dim()
    if own < 0 or mask.shape[own] == 1:
        return mask
    return mask.narrow(own, begin, end - begin)
