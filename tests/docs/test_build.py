"""The documentation builds, and a warning is an error."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.docs.markdown import ROOT

DOCS = ROOT / "docs"

pytestmark = pytest.mark.slow  # half a minute


def build(source: Path, out: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html"]
    where = ["-d", str(out / "doctrees"), str(source), str(out / "html")]
    return subprocess.run(
        command + where, capture_output=True, text=True, timeout=240, env=dict(os.environ)
    )


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    for package in ("sphinx", "myst_parser", "furo"):
        pytest.importorskip(package, reason=f"{package} is not installed: pip install '.[docs]'")
    out = tmp_path_factory.mktemp("docs")
    done = build(DOCS, out)
    assert done.returncode == 0, done.stderr
    return out / "html"


def test_it_builds_without_a_warning(built: Path) -> None:
    for page in DOCS.glob("*.md"):
        assert (built / f"{page.stem}.html").stat().st_size > 1000


def test_the_reference_holds_the_contracts(built: Path) -> None:
    reference = (built / "api.html").read_text()
    for name in ("remora.systems.contract.Ride.drain", "remora.tap.job.Job.attach"):
        assert f'id="{name}"' in reference


def test_the_pages_ask_for_nothing_from_elsewhere(built: Path) -> None:
    for page in built.glob("*.html"):
        text = page.read_text()
        for asked in ('<script src="http', '<img src="http', 'rel="stylesheet" href="http'):
            assert asked not in text, f"{page.name} loads {asked}"
