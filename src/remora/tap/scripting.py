"""``torch.jit`` compiles the functions that names find: so it is to find no wrapper, nor a hook.

``torch.export`` does so too. While they script, trace or export, everything is put back; what other
threads call meanwhile is not seen.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

_COMPILERS = {"torch.jit": ("script", "trace", "trace_module"), "torch.export": ("export",)}


def guards(put_back: Callable[[], AbstractContextManager[None]]) -> Iterator[tuple[Any, Any]]:
    """Each function that compiles, and the same run within ``put_back``."""
    for module, names in _COMPILERS.items():
        for name in names if module in sys.modules else ():
            if (compile_ := getattr(sys.modules[module], name, None)) is not None:
                yield compile_, (_script if name == "script" else _trace)(compile_, put_back)


def _script(script: Any, put_back: Callable[[], AbstractContextManager[None]]) -> Any:
    @functools.wraps(script)
    def guard(*args: Any, _frames_up: int = 0, **kwargs: Any) -> Any:
        with put_back():  # names are looked up in the caller, who is one frame further up
            return script(*args, _frames_up=_frames_up + 1, **kwargs)

    return guard


def _trace(trace: Any, put_back: Callable[[], AbstractContextManager[None]]) -> Any:
    @functools.wraps(trace)
    def guard(*args: Any, **kwargs: Any) -> Any:
        with put_back():
            return trace(*args, **kwargs)

    return guard
