"""Where in the user's code something happened: no library, not Remora, not what started it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any

import pytest

import remora
from remora.check.where import user_frame
from remora.tap import launch

PACKAGE = Path(remora.__file__).parent
LIBRARY = Path(str(pytest.__file__))


def calls(*files: str) -> FrameType:
    """The innermost frame of calls through ``files``, the outermost first; no frame between."""
    own: list[Callable[[int], FrameType]] = []
    code = "import sys\ndef own(n): return own_of[n + 1](n + 1) if own_of[n + 1:] else here()\n"
    for file in files:
        namespace: dict[str, Any] = {"own_of": own, "here": lambda: sys._getframe(1)}
        exec(compile(code, file, "exec"), namespace)
        own.append(namespace["own"])
    return own[0](0)


def test_it_is_the_innermost_line_of_the_program() -> None:
    found = user_frame(calls("/home/me/train.py", str(LIBRARY), str(PACKAGE / "check/live.py")))
    assert found == "/home/me/train.py:2"


def test_a_folder_whose_name_only_begins_like_remoras_is_the_users() -> None:
    program = f"{PACKAGE}_jobs/train.py"
    assert user_frame(calls("/home/me/outer.py", program)) == f"{program}:2"


def test_a_program_that_remora_brings_along_is_the_users_with_what_lies_beside_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    main = ModuleType("__main__")
    main.__file__ = str(PACKAGE / "experiments/silent/no_zero_grad.py")
    monkeypatch.setitem(sys.modules, "__main__", main)
    beside = str(PACKAGE / "experiments/silent/common.py")
    assert user_frame(calls(str(LIBRARY), main.__file__)) == f"{main.__file__}:2"
    assert user_frame(calls(main.__file__, beside)) == f"{beside}:2"


def test_what_started_the_program_is_no_place_in_it() -> None:
    started = ["/usr/bin/remora", str(LIBRARY), launch.__file__]
    assert user_frame(calls(*started, str(PACKAGE / "check/live.py"))) is None


def test_a_library_that_is_the_program_is_named_for_want_of_better() -> None:
    beyond = calls(launch.__file__, str(LIBRARY), str(PACKAGE / "check/live.py"))
    assert user_frame(beyond) == f"{LIBRARY}:2"
