"""Say a line on the program's own standard error, whatever the program has made of it."""

from __future__ import annotations

import contextlib
import sys
from typing import TextIO


def say(line: str, stream: TextIO | None = None) -> None:
    """Write ``line`` to ``stream``, or to what ``sys.stderr`` is now.

    A stream that is closed, that nobody reads any more, or that the program has replaced by
    something that cannot be written to, is passed over: no job ends because of what we had to say.
    """
    stream = stream or sys.stderr
    with contextlib.suppress(Exception):
        stream.write(f"{line}\n")  # in one piece: ranks may share the stream
        stream.flush()
