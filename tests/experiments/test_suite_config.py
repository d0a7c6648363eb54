"""The YAML file of the second suite: what it may hold, and what is said of what it may not."""

from __future__ import annotations

from pathlib import Path

import pytest

from remora.core.errors import BadValue, UnknownName
from remora.experiments.framework_overhead import DESIGN
from remora.experiments.suite_config import read_config
from remora.lab.design import Request
from remora.lab.planning import make_plan

pytest.importorskip("yaml")
GOOD = """
experiment: framework-overhead
workloads: [hf_tiny_gpt2, bert_latency_bound]
baselines: [native_pytorch, full_djinn, pytorch_rpc]
"""


def _read(tmp_path: Path, text: str) -> object:
    path = tmp_path / "suite.yaml"
    path.write_text(text)
    return read_config(path, DESIGN)


def test_names_as_published_become_arms(tmp_path: Path) -> None:
    path = tmp_path / "suite.yaml"
    path.write_text(GOOD)
    config = read_config(path, DESIGN)
    request = Request(workloads=config.workloads, systems=config.baselines)
    plan = make_plan(DESIGN, request)
    assert {arm.workload for arm in plan.arms} == {"tiny-gpt2-decode", "bert-base-forward"}
    labels = {arm.label for arm in plan.arms}
    assert labels == {"native", "native (again)", "full_remora", "pytorch_rpc"}


@pytest.mark.parametrize(
    ("text", "kind", "message"),
    [
        ("experiment: quick\n", BadValue, "is for the experiment 'quick'; run it with"),
        ("workloads: [hf_tiny_gpt2]\n", BadValue, "missing required field `experiment`"),
        (GOOD + "repeat: 3\n", BadValue, "unknown field `repeat`"),
        ("experiment: [1, 2\n", BadValue, "is no YAML"),
        (GOOD.replace("hf_tiny_gpt2", "hf_tiny_gpt3"), UnknownName, "did you mean 'hf_tiny_gpt2'"),
        (GOOD.replace("pytorch_rpc", "grpc"), UnknownName, "unknown baseline 'grpc'"),
        (GOOD.replace("pytorch_rpc", "hf_tiny_gpt2"), UnknownName, "baseline 'hf_tiny_gpt2'"),
        (GOOD.replace("hf_tiny_gpt2", "pytorch_rpc"), UnknownName, "workload 'pytorch_rpc'"),
        ("experiment: framework-overhead\nworkloads: 3\n", BadValue, "Expected `array`"),
    ],
)
def test_what_is_wrong_is_said(
    tmp_path: Path, text: str, kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=message):
        _read(tmp_path, text)


def test_a_file_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(BadValue, match="cannot be read: No such file"):
        read_config(tmp_path / "none.yaml", DESIGN)
