"""Have an operator write into memory that is there already, if torch has a way for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import torch

from remora.share.slicing.call import as_outputs


def write(operator: Any, values: Mapping[str, Any], outputs: Sequence[torch.Tensor | None]) -> None:
    """Compute ``operator`` of ``values`` into ``outputs``; what is None there is not wanted.

    The overload that takes outputs is used where it has a kernel of its own. Others compute into
    new memory and copy, and so does this.
    """
    into = out_overload(operator)
    if into is not None and all(output is not None for output in outputs):
        overload, names = into
        overload(**values, **dict(zip(names, outputs, strict=True)))
        return
    for output, made in zip(outputs, as_outputs(operator(**values)), strict=True):
        if output is not None:
            output.copy_(made)


@lru_cache(maxsize=4096)
def out_overload(operator: Any) -> tuple[Any, tuple[str, ...]] | None:
    """The overload that writes what ``operator`` gives, and the names of its outputs."""
    packet, wanted = operator.overloadpacket, _inputs(operator)
    for name in packet.overloads():
        overload = getattr(packet, name)
        outputs = tuple(a.name for a in overload._schema.arguments if a.is_out)
        if outputs and _inputs(overload) == wanted and _has_kernel(overload):
            return overload, outputs
    return None


def _inputs(operator: Any) -> list[tuple[str, str]]:
    return [(a.name, str(a.type)) for a in operator._schema.arguments if not a.is_out]


def _has_kernel(overload: Any) -> bool:
    """Those without one are made by torch from the others, with a copy of all outputs."""
    schema = overload._schema
    name = f"{schema.name}.{schema.overload_name}"
    has = torch._C._dispatch_has_kernel_for_dispatch_key
    return bool(has(name, "CPU") or has(name, "CompositeImplicitAutograd"))
