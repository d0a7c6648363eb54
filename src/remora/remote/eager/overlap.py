"""Writing in place where elements share memory: refused when it is asked for, as by torch.

The server would refuse it as well, but only when it is done, and the tensor were lost by then.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from remora.remote.eager.memory import memory_of
from remora.remote.segment.operators import Operator
from remora.remote.segment.shapes import is_dense

_ALL_THE_SAME = frozenset(
    f"aten.{name}"
    for name in (
        "fill_.Scalar", "fill_.Tensor", "zero_.default", "masked_fill_.Scalar",
        "masked_fill_.Tensor", "index_put_.default", "index_fill_.int_Scalar",
        "index_fill_.int_Tensor",
    )
)  # fmt: skip
"""They write the same to elements that share memory, or torch lets them."""


def check_itself(operator: Operator, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
    """Whether elements of what ``operator`` writes to share memory.

    Raises:
        RuntimeError: they do, in the words of torch.
    """
    if operator.name in _ALL_THE_SAME:
        return
    tensors = _tensors(operator, args, kwargs)
    if any(_overlaps_itself(tensors[name]) for name in operator.written & tensors.keys()):
        raise RuntimeError(
            "unsupported operation: more than one element of the written-to tensor refers to a "
            "single memory location. Please clone() the tensor before performing the operation."
        )


def check_between(operator: Operator, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
    """Whether what ``operator`` writes to shares memory with what it reads, and not all of it.

    Raises:
        RuntimeError: it does, in the words of torch.
    """
    tensors = _tensors(operator, args, kwargs)
    for written in [tensors[name] for name in operator.written & tensors.keys()]:
        for read in tensors.values():
            if read is not written and _overlap_in_part(written, read):
                raise RuntimeError(
                    "unsupported operation: some elements of the input tensor and the written-to "
                    "tensor refer to a single memory location. Please clone() the tensor before "
                    "performing the operation."
                )


def _tensors(
    operator: Operator, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> dict[str, torch.Tensor]:
    given = {**dict(zip(operator.places, args, strict=False)), **kwargs}
    return {name: each for name, each in given.items() if isinstance(each, torch.Tensor)}


def _overlaps_itself(tensor: torch.Tensor) -> bool:
    pairs = zip(tensor.stride(), tensor.shape, strict=True)
    return tensor.numel() > 1 and any(not stride and size > 1 for stride, size in pairs)


def _overlap_in_part(one: torch.Tensor, other: torch.Tensor) -> bool:
    """As far as torch looks: tensors that leave gaps are not looked at."""
    if memory_of(one) is not memory_of(other) or not one.numel() or not other.numel():
        return False
    if not is_dense(one.shape, one.stride()) or not is_dense(other.shape, other.stride()):
        return False
    first, second = _reach(one), _reach(other)
    if first == second:
        return one.stride() != other.stride()
    return first[0] < second[1] and second[0] < first[1]


def _reach(tensor: torch.Tensor) -> tuple[int, int]:
    """Bytes of memory, from and to."""
    begin = int(tensor.storage_offset()) * tensor.element_size()
    return begin, begin + tensor.numel() * tensor.element_size()
