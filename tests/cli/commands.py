"""``remora …`` in this process: what a process says, without the seconds it takes to start one."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout

import pytest

from remora.cli import main

Command = Callable[..., tuple[int, str, str]]
"""Arguments to exit code, output, errors."""


def call(*arguments: object) -> tuple[int, str, str]:
    """What ``remora run`` leaves to the program it has run is put back as it was."""
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.setenv("COLUMNS", "90")
        patch.setattr(sys, "argv", [*sys.argv])
        patch.setattr(sys, "path", [*sys.path])
        patch.setattr(sys, "excepthook", sys.excepthook)
        patch.setitem(sys.modules, "__main__", sys.modules["__main__"])
        with pytest.raises(SystemExit) as exited:
            main([*map(str, arguments)])
    assert isinstance(exited.value.code, int)
    return exited.value.code, out.getvalue(), err.getvalue()
