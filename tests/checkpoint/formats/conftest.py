"""The state that all formats are tried with."""

from __future__ import annotations

from typing import Any

import pytest
from tests.checkpoint.formats.states import make_state


@pytest.fixture
def state() -> dict[str, Any]:
    """A fresh one, see :mod:`tests.checkpoint.formats.states`."""
    return make_state()
