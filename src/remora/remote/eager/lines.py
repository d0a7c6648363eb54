"""The line of the program that asked for an operator."""

from __future__ import annotations

import sys
from pathlib import Path
from types import CodeType, FrameType

import torch

_TORCH = str(Path(torch.__file__).parent)
_REMORA = Path(__file__).parents[2]
_OURS = tuple(str(_REMORA / part) for part in ("remote", "share", "tap"))
"""What stands between a program and its operators."""
Line = tuple[CodeType, int] | None
_is_own: dict[CodeType, bool] = {}
"""Whether code is the program's: neither torch's nor ours."""
_MOST = 50_000


def line_here() -> Line:
    """The innermost line that is neither torch's nor ours; None in a thread of torch's own."""
    frame: FrameType | None = sys._getframe(2)
    while frame is not None:
        code = frame.f_code
        own = _is_own.get(code)
        if own is None:
            own = _learn(code)
        if own:
            return code, frame.f_lineno
        frame = frame.f_back
    return None


def shown(line: Line) -> str:
    """As errors name it; empty for none."""
    return f"{line[0].co_filename}:{line[1]} in {line[0].co_name}" if line is not None else ""


def _learn(code: CodeType) -> bool:
    if len(_is_own) > _MOST:
        _is_own.clear()
    file = code.co_filename
    own = _is_own[code] = not file.startswith((_TORCH, *_OURS, "<"))
    return own
