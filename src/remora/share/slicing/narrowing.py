"""Cut a call along one dimension that some of its tensors have and the operator does not mix."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from remora.share.slicing.call import Call
from remora.share.slicing.contract import Axis
from remora.share.slicing.writing import write


def along(
    name: str,
    dim: int,
    call: Call,
    arguments: Mapping[str, Tensor],
    outputs: Sequence[Tensor | None],
    values: Mapping[str, Any] | None = None,
    grain: int = 1,
) -> Axis:
    """``arguments`` are narrowed at ``dim`` and given to the operator by their names, beside what
    ``values`` changes; so are ``outputs``, which it writes."""

    def run(begin: int, end: int) -> None:
        own = {key: each.narrow(dim, begin, end - begin) for key, each in arguments.items()}
        into = [None if o is None else o.narrow(dim, begin, end - begin) for o in outputs]
        write(call.operator, {**call.values, **(values or {}), **own}, into)

    extent = next(each.shape[dim] for each in outputs if each is not None)
    return Axis(name, extent, run, grain)


def tensors(call: Call, *names: str) -> dict[str, Tensor]:
    """Those of the arguments called ``names`` that are given."""
    return {name: call[name] for name in names if call[name] is not None}
