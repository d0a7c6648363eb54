"""A results folder with a conductor that only pretends to run processes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from tests.lab.builders import FakeExecutor, Rig, make_plan

from remora.core.clock import ManualClock
from remora.lab.folder import Folder
from remora.lab.results import Plan


@pytest.fixture
def rig(tmp_path: Path) -> Callable[..., Rig]:
    def build(plan: Plan | None = None, **executor: object) -> Rig:
        plan = plan or make_plan()
        path = tmp_path / "results"
        Folder.create(path, plan)
        return Rig(path, plan, FakeExecutor(ManualClock(), **executor))  # type: ignore[arg-type]

    return build
