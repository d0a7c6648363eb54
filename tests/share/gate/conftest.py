"""A roster of a test's own, and jobs that are in it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.share.gate.members import Members

from remora.share.system.roster import Roster


@pytest.fixture
def roster(tmp_path: Path) -> Roster:
    return Roster(tmp_path / "remora")


@pytest.fixture
def members(roster: Roster) -> Iterator[Members]:
    made = Members(roster)
    yield made
    made.leave()
