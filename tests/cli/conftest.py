"""What tests of commands share."""

from __future__ import annotations

import pytest
from tests.cli.commands import Command, call


@pytest.fixture
def command() -> Command:
    """Run ``remora …`` in this process: exit code, output, errors."""
    return call
