"""Outputs of calls that stay here, and go into other calls of the same client."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from remora.core.errors import Refused
from remora.remote.server.handles import Handles, Held, charged

Said = tuple[tuple[str, tuple[int, ...]], ...]
"""Dtype and shape of each."""


def with_kept(
    handles: Handles, held: Sequence[int], tensors: Sequence[torch.Tensor]
) -> list[torch.Tensor]:
    """All inputs of a call: those that are kept, and ``tensors`` where ``held`` has a 0.

    Raises:
        Refused: one is not kept here, or another number came than is said.
    """
    if not held:
        return list(tensors)
    if held.count(0) != len(tensors):
        raise Refused(f"{len(tensors)} tensors came; the call says {held.count(0)}")
    came = iter(tensors)
    return [kept(handles, number) if number else next(came) for number in held]


def kept(handles: Handles, number: int) -> torch.Tensor:
    """The tensor that is kept by ``number``.

    Raises:
        Refused: there is none.
    """
    tensor = handles.get(number).tensor
    if tensor is None:
        raise Refused(f"there is no tensor {number} here (any more)")
    return tensor


def keep(handles: Handles, tensors: Mapping[int, torch.Tensor]) -> Said:
    """Keep them by their numbers; says what they are.

    Raises:
        Refused: there is no room. None is kept then.
    """
    handles.room.take(sum(charged(tensor.nbytes) for tensor in tensors.values()))
    for number, tensor in tensors.items():
        handles.keep(number, Held(tensor, tensor.nbytes))
    return tuple(
        (str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape))
        for tensor in tensors.values()
    )
