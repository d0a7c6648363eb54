"""Which hooks can be had here."""

from __future__ import annotations

import pytest

from remora.core.errors import Unavailable
from remora.share.interception.building import Build


def built_or_skipped(name: str) -> str:
    """``name``, of a hook that is built by now; the test is skipped where it cannot be."""
    if name == "compiled":
        try:
            Build().build()
        except Unavailable as error:
            pytest.skip(str(error))
    return name
