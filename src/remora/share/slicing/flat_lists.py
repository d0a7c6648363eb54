"""Lists of tensors that go side by side, seen as one long row of elements."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

Lists = Mapping[str, Sequence[Tensor]]


class FlatLists:
    """Lists of equally many tensors, those of one place alike in shape and dense in memory alike.

    An index is an element: of the first tensors of all lists, then of the second ones, …
    """

    def __init__(self, lists: Lists) -> None:
        self._lists = {name: [_flat(each) for each in tensors] for name, tensors in lists.items()}
        first = next(iter(lists.values()))
        self._begins = [0]
        for each in first:
            self._begins.append(self._begins[-1] + each.numel())

    @property
    def elements(self) -> int:
        """How many in one list."""
        return self._begins[-1]

    def between(self, begin: int, end: int) -> tuple[slice, dict[str, list[Tensor]]]:
        """The places in the lists that hold the elements from ``begin`` to before ``end``, and of
        each list the pieces of its tensors at those places."""
        low = bisect_right(self._begins, begin) - 1
        high = bisect_right(self._begins, end - 1)
        cut = {
            name: [
                tensors[at][max(begin - self._begins[at], 0) : end - self._begins[at]]
                for at in range(low, high)
            ]
            for name, tensors in self._lists.items()
        }
        return slice(low, high), cut


def are_alike(lists: Lists) -> bool:
    """Whether :class:`FlatLists` can be made of them."""
    columns = list(zip(*lists.values(), strict=False))
    lengths = {len(tensors) for tensors in lists.values()}
    return len(lengths) == 1 and all(_alike(column) for column in columns) and bool(columns)


def _alike(column: Sequence[Tensor]) -> bool:
    first = column[0]
    return torch.ops.aten.is_non_overlapping_and_dense(first) and all(
        each.shape == first.shape and each.stride() == first.stride() for each in column
    )


def _flat(tensor: Tensor) -> Tensor:
    return tensor.as_strided((tensor.numel(),), (1,), tensor.storage_offset())
