"""What is told of a batch of data: its rows, and a digest that tells it from others.

A digest is cheap beside loading the batch.

Every byte of a tensor of up to 1 MiB counts; of a larger one, 64 KiB at each of 16 places, evenly
spread, which are of several of its samples. A batch of 154 MB then takes as long as one of 1 MiB.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
import xxhash

from remora.core.tensors import tensor_bytes

FEWEST_BYTES = 1024
"""Smaller batches, such as a few labels, are equal by chance."""
PLACES = 16
BYTES_AT_A_PLACE = 1 << 16
DEEPEST = 4


def batch_digest(batch: Any) -> tuple[int] | None:
    """Of the tensors in lists, tuples and mappings; None for too few bytes, or any off the host."""
    digest, size = xxhash.xxh3_64(), 0
    for tensor in _tensors_in(batch):
        if tensor.device.type != "cpu" or tensor.layout is not torch.strided:
            return None
        content = tensor_bytes(tensor)
        size += len(content)
        digest.update(f"{tensor.dtype}{tuple(tensor.shape)}".encode())
        for part in _parts(content):
            digest.update(part)
    return (digest.intdigest(),) if size >= FEWEST_BYTES else None


def batch_rows(batch: Any) -> int | None:
    """The first size of its tensors; None where they have none, or not the same."""
    sizes = {tensor.shape[0] if tensor.dim() else None for tensor in _tensors_in(batch)}
    return sizes.pop() if len(sizes) == 1 else None


def _tensors_in(value: Any, depth: int = 0) -> Iterator[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        yield value
    elif depth < DEEPEST and isinstance(value, list | tuple | Mapping):
        for item in value.values() if isinstance(value, Mapping) else value:
            yield from _tensors_in(item, depth + 1)


def _parts(content: memoryview) -> Iterator[memoryview]:
    if len(content) <= PLACES * BYTES_AT_A_PLACE:
        yield content
        return
    for place in range(PLACES):
        start = place * (len(content) - BYTES_AT_A_PLACE) // (PLACES - 1)
        yield content[start : start + BYTES_AT_A_PLACE]
