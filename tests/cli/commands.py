"""``remora …`` in this process: what a process says, without the seconds it takes to start one."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from remora.cli import main

Command = Callable[..., tuple[int, str, str]]
"""Arguments to exit code, output, errors."""


def in_process(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    monkeypatch.setenv("COLUMNS", "90")

    def call(*arguments: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as exited:
            main([*map(str, arguments)])
        shown = capsys.readouterr()
        assert isinstance(exited.value.code, int)
        return exited.value.code, shown.out, shown.err

    return call
