"""Every operator that can be cut, by the name of its overload: ``aten.mm.default``."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from types import MappingProxyType

from remora.core.errors import UnknownName
from remora.share.slicing.call import Call
from remora.share.slicing.contract import Part, Slicer
from remora.share.slicing.families import (
    attention,
    convolution,
    copies,
    elementwise,
    embedding,
    foreach,
    losses,
    matmul,
    normalisation,
    optimizers,
    pooling,
    reductions,
    softmax,
)

_FAMILIES = (
    elementwise, copies, matmul, convolution, attention, softmax, normalisation, embedding,
    reductions, losses, pooling, foreach, optimizers,
)  # fmt: skip


@cache
def slicers() -> MappingProxyType[str, Slicer]:
    """All of them."""
    found: dict[str, Slicer] = {}
    for family in _FAMILIES:
        found.update(family.slicers())
    return MappingProxyType(found)


def has(operator: object) -> bool:
    """Whether calls of ``operator`` may be cut."""
    return str(operator) in slicers()


def parts(call: Call) -> Sequence[Part]:
    """The parts of ``call``; none where it lies so that it cannot be cut.

    Raises:
        UnknownName: its operator is none that can be cut.
    """
    name = str(call.operator)
    if name not in slicers():
        raise UnknownName("operator to cut", name, slicers())
    return slicers()[name](call)
