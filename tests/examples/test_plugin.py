"""The worked example of a third-party package, installed and run as its README says."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

PLUGIN = Path(__file__).parents[2] / "examples" / "remora-example-plugin"


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment in which the package is installed, beside the one the tests run in."""
    site = tmp_path_factory.mktemp("site")
    source = tmp_path_factory.mktemp("source") / "plugin"
    subprocess.run(["cp", "-r", str(PLUGIN), str(source)], check=True)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps"]
    where = ["--no-build-isolation", "--target", str(site), str(source)]
    subprocess.run([*pip, *where], check=True, timeout=240)
    path = os.pathsep.join(filter(None, (str(site), os.environ.get("PYTHONPATH"))))
    return os.environ | {"PYTHONPATH": path}


def remora(
    environment: dict[str, str], directory: Path, *arguments: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "remora", *arguments],
        env=environment,
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=240,
    )


@pytest.mark.slow
def test_its_names_are_listed_beside_ours(environment: dict[str, str], tmp_path: Path) -> None:
    shown = remora(environment | {"COLUMNS": "200"}, tmp_path, "list")
    assert shown.returncode == 0, shown.stderr
    for name in ("perceptron-train", "slow-loris", "gpt2-train", "torch-save"):
        assert name in shown.stdout


@pytest.mark.slow
def test_its_workload_runs_under_its_system(environment: dict[str, str], tmp_path: Path) -> None:
    done = remora(
        environment,
        tmp_path,
        *("bench", "quick", "--workload", "perceptron-train", "--system", "slow-loris"),
        *("--blocks", "2", "--seconds", "0.3", "--executor", "forkserver", "--out", "results"),
    )
    assert done.returncode == 0, done.stderr
    analysis = json.loads((tmp_path / "results" / "report" / "results.json").read_text())
    (row,) = analysis["comparisons"]
    assert (row["workload"], row["label"]) == ("perceptron-train", "slow-loris")
    step = {cell["arm"]["label"]: cell["step_ms"]["mean"] for cell in analysis["cells"]}
    assert step["slow-loris"] - step["native"] == pytest.approx(20, abs=5)
    assert row["equal_work"] == "identical"
