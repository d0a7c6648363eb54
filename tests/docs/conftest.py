"""The project's Markdown, as the tests of it read it."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.docs.markdown import ROOT, Page


@pytest.fixture(scope="session")
def results_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real results folder: the smallest bench there is, run in this process."""
    from remora.experiments import registry
    from remora.lab import executors
    from remora.lab.conduct import Conductor
    from remora.lab.design import Request
    from remora.lab.folder import Folder
    from remora.lab.planning import Replanner, make_plan
    from remora.lab.trial_runner import TrialRunner

    request = Request(
        workloads=("micro-matmul-forward",), systems=("torch-save",), blocks=2, seconds=0.01,
        executor="in-process",
    )  # fmt: skip
    plan = make_plan(registry.get("quick"), request)
    folder = Folder.create(tmp_path_factory.mktemp("results") / "r", plan)
    executor = executors.create("in-process", threads=1)
    Conductor(folder, TrialRunner(folder, executor), replanner=Replanner()).run()
    return folder.path


@pytest.fixture(scope="session")
def pages() -> list[Page]:
    found = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("examples/**/*.md")]
    return [Page(path) for path in sorted(found)]
