"""Watch without being watched: what a callback asks of tensors is no call of the program.

A program may have torch tell it of every call (``TorchFunctionMode``, tensor subclasses) or of
every operator (``TorchDispatchMode``). Those that a callback makes are kept from them.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TypeVar

T = TypeVar("T")


def modes_are_on() -> bool:
    """Whether any mode of torch would see what is called now."""
    torch = sys.modules.get("torch")
    if torch is None:
        return False
    core = torch._C
    return bool(core._is_torch_function_mode_enabled() or core._len_torch_dispatch_stack())


def out_of_sight() -> AbstractContextManager[object]:
    """Within it tensor subclasses are not told of what is asked of them."""
    found: AbstractContextManager[object] = sys.modules["torch"]._C.DisableTorchFunction()
    return found


def unseen(call: Callable[..., T], *args: object) -> T:
    """What ``call(*args)`` gives, out of sight of tensor subclasses."""
    with out_of_sight():
        return call(*args)


def undisturbed(call: Callable[..., T], *args: object) -> T:
    """What ``call(*args)`` gives, out of sight of modes and of tensor subclasses."""
    import torch
    from torch.utils._python_dispatch import _disable_current_modes

    with torch._C.DisableTorchFunction(), _disable_current_modes():
        return call(*args)
