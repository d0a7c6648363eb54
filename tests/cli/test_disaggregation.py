"""``remora bench disaggregation`` at its smallest scale: all rows run, none claims too much."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from tests.cli.shell import run

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        find_spec("transformers") is None or find_spec("ray") is None,
        reason="the rows are run on models of transformers, and one of them by Ray",
    ),
]
BASELINES = {
    *("native", "captured", "naive", "capture-only", "local-remote", "full"),
    *("no-weight-cache", "no-plan-reuse", "no-kv-residency", "kv-returned"),
    *("no-output-selection", "no-streaming", "driver", "eager-device", "torch-rpc", "ray-actor"),
    *("full@1gbit-1ms", "naive@1gbit-1ms"),
}
TOGETHER = {"driver", "eager-device"}
"""Rows whose program has no token before it has all of a step."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("bench")
    done = run(place, "bench", "disaggregation", "--scale", "validate", "--out", "r", timeout=600)
    assert done.returncode == 0, done.stderr
    return place / "r"


@pytest.fixture(scope="module")
def analysis(folder: Path) -> dict[str, Any]:
    read: dict[str, Any] = json.loads((folder / "report" / "results.json").read_text())
    return read


def _decoding(analysis: dict[str, Any]) -> dict[str, Any]:
    cells = analysis["cells"]
    return {c["arm"]["label"]: c for c in cells if c["arm"]["workload"] == "gpt2-decode"}


def test_every_row_was_measured_and_gave_natives_tokens(analysis: dict[str, Any]) -> None:
    assert set(_decoding(analysis)) >= BASELINES
    assert all(cell["trials"] and not cell["failures"] for cell in analysis["cells"])
    compared = [c for c in analysis["comparisons"] if c["workload"] == "gpt2-decode"]
    assert {row["equal_work"] for row in compared} == {"identical"}


def test_every_row_that_can_know_it_has_a_first_token(analysis: dict[str, Any]) -> None:
    for label, cell in _decoding(analysis).items():
        first, unit, step = cell["first_unit_ms"], cell["unit_ms"]["mean"], cell["step_ms"]["mean"]
        assert unit == pytest.approx(step / cell["work_count"])
        if label in TOGETHER:
            assert first is None
        else:
            assert 0 < first["mean"] <= step


def test_the_graph_was_captured_once_and_its_time_is_told(
    folder: Path, analysis: dict[str, Any]
) -> None:
    cells = _decoding(analysis)
    took = {cells[label]["start_up_ms"]["prepare"]["mean"] for label in ("captured", "full")}
    assert len(took) == 1
    assert min(took) > 0
    assert "prepare" not in cells["torch-rpc"]["start_up_ms"]
    assert (folder / "prepared" / "gpt2-decode" / "graph" / "graph.msgpack").exists()


def test_the_report_has_the_files_that_it_names(folder: Path) -> None:
    page = (folder / "report" / "index.html").read_text()
    for name in ("speedup_table.tex", "latency_comparison.csv", "figures/gpu_utilization.pdf"):
        assert (folder / "report" / name).stat().st_size > 0
        assert f'href="{name}"' in page
