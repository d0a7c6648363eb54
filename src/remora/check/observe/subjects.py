"""What a call that may change variables is made on: an optimizer, a module, tensors, or nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_ARGUMENTS: dict[str, tuple[int, str] | None] = {
    "torch.Tensor.backward": None,
    "torch.nn.utils.clip_grad_norm_": (0, "parameters"),
    "torch.amp.GradScaler.unscale_": (1, "optimizer"),
}
"""By function, the argument that it is made on; of any other it is the first."""


def subject_of(function: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """None where it is made on nothing that owns variables, or that cannot be told."""
    place = _ARGUMENTS.get(function, (0, "self"))
    if place is None:
        return None
    index, name = place
    return args[index] if index < len(args) else kwargs.get(name)
