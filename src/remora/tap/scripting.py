"""``torch.jit.script`` compiles the functions that names find: so it is to find no wrapper.

While it compiles, everything is put back; what other threads call meanwhile is not seen.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any


def script_function() -> Any:
    """``torch.jit.script``, if it is there."""
    return getattr(sys.modules.get("torch.jit"), "script", None)


def guarded(script: Any, put_back: Callable[[], AbstractContextManager[None]]) -> Any:
    """``script``, run within ``put_back``."""

    @functools.wraps(script)
    def guard(*args: Any, _frames_up: int = 0, **kwargs: Any) -> Any:
        with put_back():  # names are looked up in the caller, who is one frame further up
            return script(*args, _frames_up=_frames_up + 1, **kwargs)

    return guard
