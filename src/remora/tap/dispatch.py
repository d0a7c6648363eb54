"""A call that torch hands to a mode or a tensor subclass comes back: it is still one call.

torch lets a ``TorchFunctionMode`` (``with torch.device(...)`` is one) or a tensor subclass take a
call over, and hands it the function as its name finds it, which is the wrapper while it is watched.
What they then call enters the wrapper a second time, within the first.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from threading import get_ident
from types import BuiltinFunctionType, CodeType, FrameType, ModuleType
from typing import Any

_TAKES_OVER = "__torch_function__"


class Dispatched:
    """One function of torch that may come back to its wrapper. Called, it calls the function."""

    __slots__ = ("_function", "inside", "wrapped")

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function
        self.inside: set[int] = set()
        """Threads that are in a call of it."""
        self.wrapped: CodeType | None = None
        """Of wrappers, which have a local ``through`` for this one, and may call it themselves."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        ident = get_ident()
        if ident in self.inside:
            return self._function(*args, **kwargs)
        self.inside.add(ident)
        try:
            return self._function(*args, **kwargs)
        finally:
            self.inside.discard(ident)

    def is_coming_back(self) -> bool:
        """Whether whoever calls the wrapper has been handed a call of it by torch."""
        return get_ident() in self.inside and self._was_taken_over(sys._getframe(2))

    def _was_taken_over(self, frame: FrameType | None) -> bool:
        ours = {type(self).__call__.__code__: "self", self.wrapped: "through"}
        taken_over = False
        while frame is not None:
            name = ours.get(frame.f_code)
            if name is not None and frame.f_locals.get(name) is self:
                return taken_over
            taken_over = taken_over or frame.f_code.co_name == _TAKES_OVER
            frame = frame.f_back
        return False


class HandsOver(Dispatched):
    """A function that is built into torch: it hands itself to whoever takes its calls over.

    But that is not what its name finds while it is watched, and those who take a call over ask by
    name which it is. So they are handed the wrapper, as by torch's functions in Python.
    """

    __slots__ = ("_hand", "_plain", "would_hand", "wrapper")

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__(function)
        torch = sys.modules["torch"]
        self.wrapper = function
        self._plain, self._hand = torch.Tensor, torch.overrides.handle_torch_function
        self.would_hand = torch._C._has_torch_function
        """Whether torch would hand the function over, by all that it is called with."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        given = (*args, *kwargs.values())
        if not self.would_hand(given):
            return self._function(*args, **kwargs)
        ident = get_ident()
        is_first = ident not in self.inside
        self.inside.add(ident)
        try:
            theirs = tuple(one for one in given if type(one) is not self._plain)
            return self._hand(self.wrapper, theirs, *args, **kwargs)
        finally:
            if is_first:
                self.inside.discard(ident)


def dispatched(function: Any, owner: Any) -> Dispatched | None:
    """``function`` of ``owner`` as its wrapper calls it; None if no call of it comes back."""
    home = getattr(function, "__self__", None)
    where = home if isinstance(home, ModuleType) else owner
    name = where.__module__ if isinstance(where, type) else getattr(where, "__name__", "")
    if name.partition(".")[0] != "torch":
        return None
    is_built_in = isinstance(function, BuiltinFunctionType)
    return HandsOver(function) if is_built_in else Dispatched(function)
