"""The contract of a part: one live object of a job, taken from and put back."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any

import torch

from remora.core.errors import StateMismatch


class Part(ABC):
    """One object that a checkpoint covers. ``at`` is its place in the state, as ``model``."""

    def __init__(self, at: str) -> None:
        self.at = at

    @abstractmethod
    def capture(self) -> Any:
        """Its state now: nested plain values and tensors, which may be the live ones."""

    def misfits(self, state: Any) -> list[str]:
        """In what ways ``state`` does not fit the object; tensors' values do not matter.

        Empty too where only the object itself can tell.
        """
        return []

    def targets(self, state: Any) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Pairs of a tensor of ``state`` and the live one that may be overwritten by it.

        ``state`` comes back to :meth:`load` with the live tensors in the places of theirs.
        """
        return iter(())

    @abstractmethod
    def load(self, state: Any, *, strict: bool) -> list[str]:
        """Put ``state`` into the object, which may keep its tensors; what did not fit.

        Raises:
            StateMismatch: the object refused, and ``strict``.
        """

    def close(self) -> None:  # noqa: B027, most watch nothing
        """Undo what watching the object took."""


def refused(at: str, error: Exception, *, strict: bool) -> list[str]:
    """The one line for what an object's ``load_state_dict`` raised; raised itself if ``strict``."""
    reason = " ".join(str(error).split())
    line = f"{at} refused it with {type(error).__name__}: {reason[:500]}"
    if strict:
        raise StateMismatch(f"the checkpoint does not fit: {line}") from error
    return [line]


def shape(tensor: torch.Tensor) -> str:
    """As in messages: ``3×4``."""
    return "×".join(map(str, tensor.shape)) or "a scalar"


def same_memory(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Whether they are the same elements at the same place, or both have none."""
    return (
        one.data_ptr() == other.data_ptr()
        and one.shape == other.shape
        and one.stride() == other.stride()
        and one.dtype is other.dtype
        and one.device == other.device
    )
