"""Workloads by name: ours, a third party's, and a broken third party's."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from remora.core.errors import Unavailable, UnknownName
from remora.workloads import registry

_PACKAGE = """
from remora.workloads.contract import Workload

class Ours(Workload):
    name, model, mode, source = "theirs-forward", "theirs", "forward", "their paper, table 1"
    def sizes(self, scale): return {"batch": 1}
    def footprint(self, scale): raise NotImplementedError
    def build(self, scale, device, *, seed=0, data=None): raise NotImplementedError

instance = Ours()

def misnamed(): return Ours()
"""

_ENTRIES = """[remora.workloads]
theirs-forward = their_models:{target}
absent-train = their_models_that_are_not:Anything
misnamed-train = their_models:misnamed
"""


@pytest.fixture(params=["Ours", "instance"])
def installed(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """A package with one good workload (a class, or an instance) and two broken ones."""
    (tmp_path / "their_models.py").write_text(_PACKAGE)
    metadata = tmp_path / "theirs-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(_ENTRIES.format(target=request.param))
    monkeypatch.syspath_prepend(str(tmp_path))
    registry.forget()
    yield
    registry.forget()
    sys.modules.pop("their_models", None)


def test_every_wanted_model_is_there() -> None:
    gpt2 = {"train", "forward", "prefill", "decode"}
    wanted = {
        "vgg16": {"train", "forward"},
        "resnet18": {"train", "forward"},
        "resnet50": {"train", "forward"},
        "mnist-cnn": {"train"},
        "mlp": {"train"},
        "word-lm": {"train"},
        "dcgan": {"train"},
        "siamese": {"train"},
        "vae": {"train"},
        "vit": {"train"},
        "gcn": {"train"},
        "gat": {"train"},
        "bert-classification": {"train"},
        "t5-base": {"train"},
        "pegasus-x-base": {"train"},
        "pointnet": {"train"},
        "bert-base": {"train", "forward"},
        "bert-large": {"train", "forward"},
        "gpt2": gpt2,
        "gpt2-medium": gpt2,
        "gpt2-large": gpt2,
        "gpt2-xl": gpt2,
        "gpt2-40m": {"train"},
        "tiny-gpt2": {"decode"},
        "opt-350m": {"train", "decode"},
        "opt-1.3b": {"train", "decode"},
        "bloom-560m": {"train"},
        "transformer-xl": {"train"},
        "llama-2-7b": {"prefill", "decode"},
        "clip-vit-b32": {"forward"},
        "whisper-tiny": {"train", "forward", "decode"},
        "whisper-base": {"train", "forward", "decode"},
        "micro-matmul": {"forward"},
        "micro-conv": {"forward"},
        "micro-attention": {"forward"},
        "micro-elementwise": {"forward"},
        **{f"device-like{size}": {"train"} for size in ("", "-s", "-m", "-l", "-xl")},
    }
    found: dict[str, set[str]] = {}
    for row in registry.describe("paper"):
        found.setdefault(row.model, set()).add(row.mode)
    assert found == wanted


def test_an_unknown_name_lists_the_valid_ones() -> None:
    with pytest.raises(UnknownName, match=r"did you mean 'gpt2-train'.*vgg16-train"):
        registry.get("gpt2-trian")


def test_a_bare_model_means_training_or_its_only_mode() -> None:
    assert registry.get("gpt2").name == "gpt2-train"
    assert registry.get("clip-vit-b32").name == "clip-vit-b32-forward"
    with pytest.raises(UnknownName):
        registry.get("llama-2-7b")


@pytest.mark.usefixtures("installed")
def test_a_third_party_is_listed_and_a_broken_one_spoils_only_itself() -> None:
    assert registry.get("theirs-forward").source == "their paper, table 1"
    assert registry.get("theirs") is registry.get("theirs-forward")
    assert {"theirs-forward", "vgg16-train"} <= set(registry.names())
    assert not {"absent-train", "misnamed-train"} & set(registry.names())
    assert set(registry.broken()) == {"absent-train", "misnamed-train"}
    with pytest.raises(Unavailable, match=r"absent-train.*'theirs'.*their_models_that_are_not"):
        registry.get("absent-train")


def test_a_row_counts_parameters_when_asked() -> None:
    (row,) = (row for row in registry.describe("paper") if row.name == "vgg16-train")
    assert row.parameters == 138_357_544  # the published count of VGG-16
    assert row.sizes["batch"] == 32


@pytest.mark.slow
def test_listing_imports_no_models() -> None:
    code = """
import sys
from remora.workloads import registry
registry.describe("paper")
assert not {"transformers", "torchvision"} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
