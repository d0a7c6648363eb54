"""What tests of commands share."""

from __future__ import annotations

import pytest
from tests.cli.commands import Command, in_process


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    """Run ``remora …`` in this process: exit code, output, errors."""
    return in_process(capsys, monkeypatch)
