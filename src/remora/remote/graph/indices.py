"""Indices beyond what they look into, refused before a device meets them.

The CPU raises an error for one. A CUDA device stops: every later call of the process fails, also
those of other clients. So where the device is none that looks itself, each operator that takes
indices is preceded by a look at them, which waits for the device.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any

import torch

Given = Mapping[str, Any]


def looked_at(
    operator: str, function: Callable[..., Any], device: torch.device
) -> Callable[..., Any]:
    """``function``, which is what ``operator`` calls on ``device``, with a look where it needs one.

    Raises from then on:
        IndexError: an index is out of range.
    """
    check = None if device.type in ("cpu", "meta") else check_of(operator)
    if check is None:
        return function

    @wraps(function)
    def looking(*arguments: Any, **keywords: Any) -> Any:
        if not check(arguments, keywords):
            raise IndexError("an index is out of range")
        return function(*arguments, **keywords)

    return looking


def check_of(operator: str) -> Callable[[tuple[Any, ...], Given], bool] | None:
    """What tells whether the indices that ``operator`` is given are within range."""
    _, base, overload = operator.split(".") if operator.count(".") == 2 else ("", "", "")
    check = _CHECKS.get(base)
    if check is None:
        return None
    known = getattr(getattr(torch.ops.aten, base), overload)._schema
    names = [argument.name for argument in known.arguments]
    defaults = {argument.name: argument.default_value for argument in known.arguments}
    return lambda arguments, keywords: check(
        {**defaults, **dict(zip(names, arguments, strict=False)), **keywords}
    )


def within(indices: torch.Tensor, least: int, most: int) -> bool:
    """Whether all ``indices`` are ``least`` or more, and less than ``most``."""
    return not indices.numel() or bool(((indices >= least) & (indices < most)).all())


def _rows(given: Given) -> bool:
    return within(given["indices"], 0, given["weight"].shape[0])


def _along_a_dim(given: Given) -> bool:
    looked_into, dim, index = given["self"], given["dim"], given["index"]
    return within(index, 0, looked_into.shape[dim] if looked_into.dim() else 1)


def _along_a_dim_or_all(given: Given) -> bool:
    if given["dim"] is None:
        return within(given["indices"], 0, given["self"].numel())
    return within(given["indices"], 0, given["self"].shape[given["dim"]])


def _anywhere(given: Given) -> bool:
    count = given["self"].numel()
    return within(given["index"], -count, count)


def _by_dims(given: Given) -> bool:
    looked_into, dim = given["self"], 0
    for index in given["indices"]:
        if index is not None and index.dtype in (torch.bool, torch.uint8):
            dim += index.dim()  # torch looks at the shapes of masks
            continue
        if index is not None and not within(index, -looked_into.shape[dim], looked_into.shape[dim]):
            return False
        dim += 1
    return True


def _classes(given: Given) -> bool:
    target, scores = given["target"], given["self"]
    if target.is_floating_point():
        return True
    target = target[target != given["ignore_index"]]
    return within(target, 0, scores.shape[1] if scores.dim() > 1 else scores.shape[0])


_CHECKS: dict[str, Callable[[Given], bool]] = {
    "embedding": _rows,
    "index": _by_dims,
    "index_put": _by_dims,
    "index_put_": _by_dims,
    "take": _anywhere,
    "take_along_dim": _along_a_dim_or_all,
    **dict.fromkeys(("nll_loss", "nll_loss_forward", "cross_entropy_loss"), _classes),
    **dict.fromkeys(("nll_loss2d_forward",), _classes),
    **{
        f"{name}{writes}": _along_a_dim
        for name in ("gather", "index_select", "index_add", "index_copy", "index_fill", "scatter",
                     "scatter_add", "scatter_reduce")
        for writes in ("", "_")
    },
}  # fmt: skip
