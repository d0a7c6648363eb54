"""The documentation builds, and a warning is an error."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.docs.markdown import ROOT

DOCS = ROOT / "docs"


def build(source: Path, out: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html"]
    where = ["-d", str(out / "doctrees"), str(source), str(out / "html")]
    return subprocess.run(
        command + where, capture_output=True, text=True, timeout=240, env=dict(os.environ)
    )


@pytest.fixture(autouse=True)
def _sphinx() -> None:
    for package in ("sphinx", "myst_parser", "furo"):
        pytest.importorskip(package, reason=f"{package} is not installed: pip install '.[docs]'")


def test_it_builds_without_a_warning(tmp_path: Path) -> None:
    done = build(DOCS, tmp_path)
    assert done.returncode == 0, done.stderr
    for page in DOCS.glob("*.md"):
        assert (tmp_path / "html" / f"{page.stem}.html").stat().st_size > 1000
    reference = (tmp_path / "html" / "api.html").read_text()
    for name in ("remora.systems.contract.Ride.drain", "remora.tap.job.Job.attach"):
        assert f'id="{name}"' in reference


def test_the_pages_ask_for_nothing_from_elsewhere(tmp_path: Path) -> None:
    done = build(DOCS, tmp_path)
    assert done.returncode == 0, done.stderr
    for page in (tmp_path / "html").glob("*.html"):
        text = page.read_text()
        for asked in ('<script src="http', '<img src="http', 'rel="stylesheet" href="http'):
            assert asked not in text, f"{page.name} loads {asked}"
