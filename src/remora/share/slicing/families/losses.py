"""The backward of cross-entropy: rows. Its forward adds over all rows, takes little, is not cut.

What is before it, the logarithm of a softmax, is in ``softmax``.
"""

from __future__ import annotations

from collections.abc import Sequence

from remora.share.slicing.call import Call
from remora.share.slicing.contract import Part, Slicer
from remora.share.slicing.narrowing import along, tensors


def slicers() -> dict[str, Slicer]:
    """By the name of their overload."""
    return {"aten.nll_loss_backward.default": nll_loss_backward}


def nll_loss_backward(call: Call) -> Sequence[Part]:
    """(rows, classes); what all rows weigh together is given, so that a mean stays that of all."""
    if call["self"].dim() != 2:
        return ()
    names = ("self", "target") if call["reduction"] else ("self", "target", "grad_output")
    return [
        Part("output", (call.out,), (along("rows", 0, call, tensors(call, *names), [call.out]),))
    ]
