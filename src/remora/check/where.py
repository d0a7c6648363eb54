"""Where in the user's own code something happened."""

from __future__ import annotations

import site
import sys
import sysconfig
from functools import cache
from pathlib import Path
from types import FrameType

_PACKAGE = Path(__file__).resolve().parents[1]
_OURS = f"{_PACKAGE}/"
_LAUNCH = str(_PACKAGE / "tap" / "launch.py")
"""What runs a program: frames further out are of what started Remora."""


def user_frame(frame: FrameType | None = None) -> str | None:
    """``file:line`` of the innermost frame that is neither a library's nor Remora's.

    A program that Remora brings along is the user's, with the files beside it. Where all is a
    library's, as when that is what is run, its outermost line; None where there is nothing at all.
    """
    frame = frame if frame is not None else sys._getframe(1)
    program, outermost = _folder_of_the_program(), None
    while frame is not None and (name := frame.f_code.co_filename) != _LAUNCH:
        place, own = f"{name}:{frame.f_lineno}", str(Path(name).parent) == program
        if own or not name.startswith(("<", _OURS)):
            if own or not name.startswith(_libraries()):
                return place
            outermost = place
        frame = frame.f_back
    return outermost


def _folder_of_the_program() -> str | None:
    """Where the program is one that Remora brings along; None for any other."""
    file = getattr(sys.modules.get("__main__"), "__file__", None)
    folder = str(Path(file).parent) if isinstance(file, str) else ""
    return folder if folder.startswith(_OURS) else None


@cache
def _libraries() -> tuple[str, ...]:
    paths = sysconfig.get_paths()
    found = [paths["stdlib"], paths["platstdlib"], paths["purelib"], paths["platlib"]]
    return tuple({*found, *site.getsitepackages()})
