"""How an operator's results lie in memory, so that pieces can be written where the whole would."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from msgspec import Struct

from remora.share.slicing.call import gives


class Layout(Struct, frozen=True):
    """Shape, strides in elements, and dtype (``float32``) of one tensor."""

    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: str

    def allocate(self, device: torch.device) -> torch.Tensor:
        """Memory that holds whatever it held."""
        dtype = getattr(torch, self.dtype)
        return torch.empty_strided(self.shape, self.strides, dtype=dtype, device=device)


Layouts = tuple[Layout | tuple[Layout, ...] | None, ...]
"""One entry for each value that an operator returns: a tensor, a list of them, or nothing."""


def layout_of(tensor: torch.Tensor) -> Layout:
    """How ``tensor`` lies."""
    dtype = str(tensor.dtype).removeprefix("torch.")
    return Layout(tuple(tensor.shape), tuple(tensor.stride()), dtype)


def layouts_of(outputs: tuple[Any, ...]) -> Layouts:
    """How ``outputs`` lie."""
    return tuple(_layouts(each) for each in outputs)


def _layouts(output: Any) -> Layout | tuple[Layout, ...] | None:
    if output is None:
        return None
    if isinstance(output, torch.Tensor):
        return layout_of(output)
    return tuple(layout_of(each) for each in output)


def allocate(
    operator: Any, layouts: Layouts, values: Mapping[str, Any], device: torch.device
) -> tuple[Any, ...]:
    """Where the results go: new memory, or for what is written in place the argument."""
    places = zip(layouts, gives(operator), strict=True)
    return tuple(
        values[argument] if argument is not None else _allocated(layout, device)
        for layout, argument in places
    )


def _allocated(layout: Layout | tuple[Layout, ...] | None, device: torch.device) -> Any:
    if layout is None:
        return None
    if isinstance(layout, Layout):
        return layout.allocate(device)
    return [each.allocate(device) for each in layout]
