"""A call that torch hands to a mode or a tensor subclass comes back: it is still one call.

torch lets a ``TorchFunctionMode`` (``with torch.device(...)`` is one) or a tensor subclass take a
call over, and hands it the function as its name finds it, which is the wrapper while it is watched.
What they then call enters the wrapper a second time, within the first.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from threading import get_ident
from types import BuiltinFunctionType, FrameType, ModuleType
from typing import Any

_TAKES_OVER = "__torch_function__"


class Dispatched:
    """One function of torch that may come back to its wrapper. Called, it calls the function."""

    __slots__ = ("_function", "_inside")

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function
        self._inside: set[int] = set()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        ident = get_ident()
        if ident in self._inside:
            return self._function(*args, **kwargs)
        self._inside.add(ident)
        try:
            return self._function(*args, **kwargs)
        finally:
            self._inside.discard(ident)

    def is_coming_back(self) -> bool:
        """Whether whoever calls the wrapper has been handed a call of it by torch."""
        return get_ident() in self._inside and self._was_taken_over(sys._getframe(2))

    def _was_taken_over(self, frame: FrameType | None) -> bool:
        ours = Dispatched.__call__.__code__
        taken_over = False
        while frame is not None:
            if frame.f_code is ours and frame.f_locals.get("self") is self:
                return taken_over
            taken_over = taken_over or frame.f_code.co_name == _TAKES_OVER
            frame = frame.f_back
        return False


def may_come_back(function: Any, owner: Any) -> bool:
    """Whether torch may look ``function`` up where its wrapper stands, in ``owner``.

    Not so for ``torch.add`` and the like: torch looks those up in a class of its own.
    """
    where = owner.__module__ if isinstance(owner, type) else getattr(owner, "__name__", "")
    if where.partition(".")[0] != "torch":
        return False
    return not isinstance(function, BuiltinFunctionType) or isinstance(
        function.__self__, ModuleType
    )
