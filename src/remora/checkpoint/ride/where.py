"""Whose code is running: the script's own, or something the script asked for as a whole.

A module's forward, an optimizer's step, a gradient scaler's bookkeeping and a data loader's
fetching are each one thing to the script. What happens within them is not journaled, and replay
either leaves it out (a forward) or does it for real (a fetch). Which it is, is read off the stack,
from the innermost frame out to the first that tells.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterable
from threading import get_ident
from types import CodeType, FrameType

from remora.tap import launch
from remora.tap.subscription import in_callback

_WITHIN: set[int] = set()
"""Code, by id, whose callees are not the script's own code. See :data:`_kept`."""
_SCRIPT: set[int] = {id(launch._run.__code__)}
"""Code, by id, that calls the script."""
_kept: list[CodeType] = []


def in_script(frame: FrameType | None) -> bool:
    """Whether the code of ``frame`` is the script's own, in the main thread.

    The program pays for this at each value it reads, so it is written out.
    """
    if in_callback and get_ident() in in_callback:
        return False
    within, script = _WITHIN, _SCRIPT
    while frame is not None:
        code = id(frame.f_code)
        if code in within:
            return False
        if code in script:
            return True
        frame = frame.f_back
    return get_ident() == threading.main_thread().ident


def is_scripts(frame: FrameType | None) -> bool:
    """As :func:`in_script`, also for a service that asks within its callback."""
    while frame is not None:
        code = id(frame.f_code)
        if code in _WITHIN:
            return False
        if code in _SCRIPT:
            return True
        frame = frame.f_back
    return get_ident() == threading.main_thread().ident


def stands_within(*codes: CodeType) -> None:
    """What ``codes`` call is not the script's own."""
    _keep(codes, _WITHIN)


def calls_script(*codes: CodeType) -> None:
    """What ``codes`` call is the script's own, whoever called them."""
    _keep(codes, _SCRIPT)


def _keep(codes: Iterable[CodeType], ids: set[int]) -> None:
    for code in codes:
        if id(code) not in ids:
            _kept.append(code)  # alive, so that its id stays its own
            ids.add(id(code))


def learn_torch() -> None:
    """Call once torch has been imported."""
    from torch.nn import Module
    from torch.optim import Optimizer
    from torch.utils.data import DataLoader
    from torch.utils.data.dataloader import _BaseDataLoaderIter

    stands_within(
        Module._wrapped_call_impl.__code__,
        _BaseDataLoaderIter.__next__.__code__,
        DataLoader.__iter__.__code__,
        *_functions_in(Optimizer.profile_hook_step.__code__),
    )
    if (scaler := sys.modules.get("torch.amp.grad_scaler")) is not None:
        methods = (getattr(scaler.GradScaler, name) for name in ("step", "unscale_", "update"))
        stands_within(*(method.__code__ for method in methods))


def script_frames(frame: FrameType | None) -> list[FrameType]:
    """The script's frames on this stack, its outermost first, torch's and ours left out."""
    frames: list[FrameType] = []
    while frame is not None and id(frame.f_code) != id(launch._run.__code__):
        room = frame.f_globals.get("__name__", "").partition(".")[0]
        if room not in ("remora", "torch"):
            frames.append(frame)
        frame = frame.f_back
    return frames[::-1]


def script_line(frame: FrameType | None) -> str:
    """Where in the script ``frame`` came from, for a message: ``train.py:12``."""
    frames = script_frames(frame)
    main = [each for each in frames if each.f_globals.get("__name__") == "__main__"]
    if not frames:
        return "the script"
    found = (main or frames)[-1]
    return f"{found.f_code.co_filename}:{found.f_lineno}"


def _functions_in(code: CodeType) -> Iterable[CodeType]:
    return (constant for constant in code.co_consts if isinstance(constant, CodeType))
