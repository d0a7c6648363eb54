"""The tensors of a nested state: by name, or copied into host memory that is kept."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any

import torch


def named_tensors(state: object) -> dict[str, torch.Tensor]:
    """Every tensor of ``state`` by its path, such as ``optimizer.state.0.exp_avg``.

    A tensor that occurs twice (tied weights) has the name of its first place only.
    """
    unique: dict[tuple[Any, ...], None] = {}
    found: dict[str, torch.Tensor] = {}
    for name, tensor in _walk(state, ""):
        place = (tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype, tensor.device)
        if not tensor.numel() or place not in unique:
            unique[place] = None
            found[name] = tensor.detach()
    return found


def _walk(value: object, path: str) -> Iterator[tuple[str, torch.Tensor]]:
    if isinstance(value, torch.Tensor):
        yield path, value
        return
    if isinstance(value, Mapping):
        items = ((str(key), item) for key, item in value.items())
    elif isinstance(value, list | tuple):
        items = ((str(index), item) for index, item in enumerate(value))
    else:
        return
    for key, item in items:
        yield from _walk(item, f"{path}.{key}" if path else key)


class HostCopy:
    """A copy of a state in host memory, pinned where it comes from a GPU.

    The memory is allocated for the first copy and used again for those of the same tensors.
    """

    def __init__(self) -> None:
        self._buffers: dict[str, torch.Tensor] = {}

    def take(self, state: Any) -> Any:
        """``state`` with every tensor copied; overwrites what the last call gave."""
        return self._copied(state, "")

    def _copied(self, value: Any, path: str) -> Any:
        if isinstance(value, torch.Tensor):
            return self._buffer(path, value).copy_(value.detach())
        if isinstance(value, Mapping):
            return {key: self._copied(item, f"{path}.{key}") for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self._copied(item, f"{path}.{index}") for index, item in enumerate(value)]
        return copy.deepcopy(value)

    def _buffer(self, path: str, tensor: torch.Tensor) -> torch.Tensor:
        known = self._buffers.get(path)
        if known is None or known.shape != tensor.shape or known.dtype != tensor.dtype:
            known = torch.empty(
                tensor.shape, dtype=tensor.dtype, pin_memory=tensor.device.type == "cuda"
            )
            self._buffers[path] = known
        return known
