"""What several tests of checkpoints start from."""

from __future__ import annotations

import pytest

from remora.checkpoint import commit

RING = 4
"""Records in the ring: so few that every run goes round it."""


@pytest.fixture
def small_ring(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commit, "RING_RECORDS", RING)
