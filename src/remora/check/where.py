"""Where in the user's own code something happened."""

from __future__ import annotations

import site
import sys
import sysconfig
from functools import cache
from pathlib import Path
from types import FrameType

_OURS = str(Path(__file__).resolve().parents[1])


def user_frame(frame: FrameType | None = None) -> str | None:
    """``file:line`` of the innermost frame that is neither a library's nor Remora's."""
    frame = frame if frame is not None else sys._getframe(1)
    outermost = None
    while frame is not None:
        name = frame.f_code.co_filename
        if not name.startswith("<") and not name.startswith(_OURS):
            place = f"{name}:{frame.f_lineno}"
            if not name.startswith(_libraries()):
                return place
            outermost = place
        frame = frame.f_back
    return outermost


@cache
def _libraries() -> tuple[str, ...]:
    paths = sysconfig.get_paths()
    found = [paths["stdlib"], paths["platstdlib"], paths["purelib"], paths["platlib"]]
    return tuple({*found, *site.getsitepackages()})
