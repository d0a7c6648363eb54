"""Of what a model gives, what is wanted: a token id instead of fifty thousand logits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from remora.core.errors import Refused
from remora.remote.messages import Wanted

KINDS = ("full", "last", "top", "token", "handle", "nothing")


def select(outputs: Sequence[Any], wanted: Sequence[Wanted]) -> list[torch.Tensor]:
    """What is ``wanted`` of each output, on the host, in order; all of those beyond it.

    Raises:
        Refused: a kind that does not fit the output.
    """
    policies = [*wanted, *[Wanted()] * (len(outputs) - len(wanted))]
    if len(policies) > len(outputs):
        raise Refused(f"{len(policies)} outputs are wanted; the model gives {len(outputs)}")
    tensors = [output for output in outputs if isinstance(output, torch.Tensor)]
    return [
        _to_host(part)
        for tensor, policy in zip(tensors, policies, strict=False)
        for part in _selected(tensor, policy)
    ]


def to_keep(outputs: Sequence[Any], wanted: Sequence[Wanted]) -> dict[int, torch.Tensor]:
    """What of ``outputs`` is to be kept, by its number, where it is.

    Raises:
        Refused: a number that is none, or twice.
    """
    tensors = [output for output in outputs if isinstance(output, torch.Tensor)]
    kept: dict[int, torch.Tensor] = {}
    for tensor, policy in zip(tensors, wanted, strict=False):
        if policy.kind == "handle":
            if policy.count < 1 or policy.count in kept:
                raise Refused(f"an output cannot be kept by the number {policy.count} (again)")
            kept[policy.count] = _by_itself(tensor)
    return kept


def _by_itself(tensor: torch.Tensor) -> torch.Tensor:
    """Not holding on to a larger memory that it is a view of."""
    is_part = tensor.untyped_storage().nbytes() > tensor.nbytes
    return tensor.clone() if is_part else tensor


def _selected(tensor: torch.Tensor, wanted: Wanted) -> Sequence[torch.Tensor]:
    if wanted.kind == "full":
        return (tensor,)
    if wanted.kind in ("nothing", "handle"):
        return ()
    if wanted.kind not in KINDS:
        raise Refused(f"unknown kind {wanted.kind[:40]!r}; choose from: {', '.join(KINDS)}")
    if tensor.dim() < 2 or 0 in tensor.shape:
        raise Refused(f"{wanted.kind!r} needs an output (batch, …, classes), not {[*tensor.shape]}")
    last = tensor[:, -1:] if tensor.dim() > 2 else tensor
    if wanted.kind == "last":
        return (last,)
    if wanted.kind == "token":
        return (last.argmax(-1),)
    if not 1 <= wanted.count <= last.shape[-1]:
        raise Refused(f"the {wanted.count} largest of {last.shape[-1]} are wanted")
    top = last.topk(wanted.count, dim=-1)
    return (top.values, top.indices)


def _to_host(tensor: torch.Tensor) -> torch.Tensor:
    """Its elements and no others: what is sent must not drag along what it is a view of."""
    return tensor.detach().to("cpu").contiguous()
