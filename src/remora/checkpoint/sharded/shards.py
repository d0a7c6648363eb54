"""A state as one rank saves it, and all ranks' states put together again.

A DTensor becomes its local part with its place in the whole; a large tensor that every rank has
(as under DistributedDataParallel) is saved by one of them. What belongs to a rank alone, random
numbers and its place in the data, each saves for itself.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

import torch

SHARD = "remora.shard"
"""Marks a dict that stands for a part of a tensor: its shape as a whole, and where it begins."""
ELSEWHERE = "remora.elsewhere"
"""Marks a dict that stands for a tensor that another rank saved: which."""
SHARDS = "shards"
"""Where a rank's state says which rank's it is, and what of it all ranks have together."""
SHARED_BYTES = 64 * 1024
"""Smaller tensors are saved by every rank: less to put together, for little space."""


def localised(
    state: Mapping[str, Any], rank: int, world: int, shared: Collection[str]
) -> dict[str, Any]:
    """``state`` with what this rank is to save of it.

    Args:
        shared: names of the parts that all ranks have together, as models and optimizers; of the
            others each rank has its own.
    """
    turns: Iterator[int] = itertools.cycle(range(world))
    owners: dict[tuple[int, int], int] = {}

    def leaf(tensor: torch.Tensor) -> Any:
        if _is_dtensor(tensor):
            return _shard(tensor)
        if tensor.numel() * tensor.element_size() < SHARED_BYTES:
            return tensor
        key = tensor.data_ptr(), tensor.numel()
        owner = owners.setdefault(key, next(turns)) if key not in owners else owners[key]
        return tensor if owner == rank else {ELSEWHERE: owner}

    local = {name: _mapped(part, leaf) if name in shared else part for name, part in state.items()}
    return {**local, SHARDS: {"rank": rank, "world": world, "shared": sorted(shared)}}


def _is_dtensor(tensor: torch.Tensor) -> bool:
    return hasattr(tensor, "placements") and hasattr(tensor, "to_local")


def _shard(tensor: Any) -> dict[str, Any]:
    shape, offset = _place(tensor)
    local = tensor.to_local()
    return {SHARD: [list(tensor.shape), list(offset)], "local": local[tuple(map(slice, shape))]}


def _place(tensor: Any) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """A DTensor's local shape and where in the whole it begins."""
    from torch.distributed.tensor._utils import compute_local_shape_and_global_offset

    shape, offset = compute_local_shape_and_global_offset(
        tensor.shape, tensor.device_mesh, tensor.placements
    )
    return tuple(shape), tuple(offset)


def _mapped(value: Any, leaf: Callable[[torch.Tensor], Any]) -> Any:
    if isinstance(value, torch.Tensor):
        return leaf(value)
    if type(value) is dict or type(value).__name__ == "OrderedDict":
        return {key: _mapped(item, leaf) for key, item in value.items()}
    if type(value) in (list, tuple):
        return type(value)(_mapped(item, leaf) for item in value)
    return value


def joined(states: Sequence[Mapping[str, Any]], rank: int) -> dict[str, Any]:
    """All ranks' ``states`` as one, with what belongs to ``rank`` alone (of fewer or more ranks
    than there were: that of ``rank`` modulo their number)."""
    own = dict(states[rank % len(states)])
    if SHARDS not in own:
        return own  # saved by one rank alone
    shared = own.pop(SHARDS)["shared"]
    return {
        name: _joined([each[name] for each in states]) if name in shared else part
        for name, part in own.items()
    }


def _joined(parts: Sequence[Any]) -> Any:
    first = parts[0]
    if isinstance(first, Mapping):
        if SHARD in first:
            return _assembled(parts)
        if any(isinstance(part, Mapping) and ELSEWHERE in part for part in parts):
            return next(p for p in parts if not (isinstance(p, Mapping) and ELSEWHERE in p))
        return {key: _joined([part[key] for part in parts]) for key in first}
    if any(isinstance(part, Mapping) for part in parts):  # rank 0 has it, others say so
        return next(p for p in parts if not (isinstance(p, Mapping) and ELSEWHERE in p))
    if type(first) in (list, tuple):
        return type(first)(_joined(items) for items in zip(*parts, strict=True))
    return first


def _assembled(parts: Sequence[Mapping[str, Any]]) -> torch.Tensor:
    shape, _ = parts[0][SHARD]
    whole = torch.empty(shape, dtype=parts[0]["local"].dtype)
    for part in parts:
        local, (_, offset) = part["local"], part[SHARD]
        if local.numel():
            where = tuple(slice(o, o + n) for o, n in zip(offset, local.shape, strict=True))
            whole[where] = local
    return whole


def distributed(state: Any, like: Any, parameters: Mapping[int, torch.Tensor]) -> Any:
    """``state`` of whole tensors with DTensors where the live state ``like`` has them.

    Args:
        parameters: by index, those of an optimizer that has no state yet, for its moments.
    """
    if isinstance(state, torch.Tensor):
        return _as_dtensor(state, like) if like is not None and _is_dtensor(like) else state
    if type(state) is dict:
        return {
            key: distributed(item, _below(like, key, parameters), parameters)
            for key, item in state.items()
        }
    if type(state) in (list, tuple):
        return type(state)(
            distributed(item, _below(like, index, {}), parameters)
            for index, item in enumerate(state)
        )
    return state


def _below(like: Any, key: Any, parameters: Mapping[int, torch.Tensor]) -> Any:
    if isinstance(like, Mapping) and key in like:
        return like[key]
    if isinstance(like, list | tuple) and isinstance(key, int) and key < len(like):
        return like[key]
    if isinstance(key, int) and key in parameters:
        return _EveryMoment(parameters[key])
    return like.of(key) if isinstance(like, _EveryMoment) else None


class _EveryMoment:
    """Stands for an optimizer's state of one parameter: tensors of its shape lie as it does."""

    def __init__(self, parameter: torch.Tensor) -> None:
        self._parameter = parameter

    def of(self, key: Any) -> torch.Tensor | None:
        return None if key == "step" else self._parameter


def _as_dtensor(whole: torch.Tensor, like: Any) -> Any:
    from torch.distributed.tensor import DTensor

    if tuple(whole.shape) != tuple(like.shape):
        return whole
    shape, offset = _place(like)
    where = tuple(slice(o, o + n) for o, n in zip(offset, shape, strict=True))
    local = whole[where].to(like.to_local().device).contiguous()
    return DTensor.from_local(
        local, like.device_mesh, like.placements, run_check=False,
        shape=like.shape, stride=like.stride(),
    )  # fmt: skip
