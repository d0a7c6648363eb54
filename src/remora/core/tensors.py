"""A tensor's bytes and its fingerprint."""

from __future__ import annotations

import torch
import xxhash


def tensor_bytes(tensor: torch.Tensor) -> memoryview:
    """The elements of ``tensor``, row-major and in its own dtype, as bytes on the host.

    A contiguous CPU tensor is viewed, not copied; any other is copied once. Works for every
    strided dtype, including bool, bfloat16 and float8, and for 0-dim and empty tensors.
    """
    host = tensor.detach().resolve_conj().resolve_neg().to("cpu").contiguous()
    flat = host.reshape(-1).view(torch.uint8) if host.numel() else torch.empty(0, dtype=torch.uint8)
    return flat.numpy().data


def fingerprint(tensor: torch.Tensor) -> str:
    """A 64-bit xxh3 of every element, the shape and the dtype, as 16 hex digits."""
    digest = xxhash.xxh3_64(f"{tensor.dtype}{tuple(tensor.shape)}".encode())
    digest.update(tensor_bytes(tensor))
    return digest.hexdigest()
