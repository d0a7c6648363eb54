"""The models are the published ones: their parameter counts agree with the literature."""

from __future__ import annotations

import pytest

from remora.workloads import registry

PUBLISHED = {
    "vgg16-train": 138_357_544,
    "resnet18-train": 11_689_512,
    "resnet50-train": 25_557_032,
    "bert-base-forward": 109_482_240,
    "bert-large-forward": 335_141_888,
    "gpt2-train": 124_439_808,
    "gpt2-medium-train": 354_823_168,
    "gpt2-large-train": 774_030_080,
    "gpt2-xl-train": 1_557_611_200,
    "opt-350m-train": 331_196_416,
    "opt-1.3b-train": 1_315_758_080,
    "bloom-560m-train": 559_214_592,
    "llama-2-7b-decode": 6_738_415_616,
    "clip-vit-b32-forward": 151_277_313,
    "whisper-tiny-forward": 37_760_640,
    "whisper-base-forward": 72_593_920,
    "mnist-cnn-train": 1_199_882,
    "dcgan-train": 3_576_704 + 2_765_568,
    "vae-train": 652_824,
    "vit-train": 86_567_656,
    "gcn-train": 23_063,
    "gat-train": 92_373,
    "bert-classification-train": 109_483_778,
    "t5-base-train": 222_903_552,
}


@pytest.mark.parametrize(("name", "parameters"), PUBLISHED.items())
def test_count_is_the_published_one(name: str, parameters: int) -> None:
    (row,) = (row for row in registry.describe("paper") if row.name == name)
    assert row.parameters == parameters


@pytest.mark.parametrize(
    ("name", "millions"), [("pointnet-train", 3.5), ("pegasus-x-base-train", 272)]
)
def test_count_is_about_the_published_one(name: str, millions: float) -> None:
    """Qi et al. 2017, table 6; Phang et al. 2022, table 1."""
    (row,) = (row for row in registry.describe("paper") if row.name == name)
    assert row.parameters == pytest.approx(millions * 1e6, rel=0.01)


def test_transformer_xl_is_about_as_large_as_published() -> None:
    """151 million in Dai et al. 2019, table 1."""
    (row,) = (row for row in registry.describe("paper") if row.name == "transformer-xl-train")
    assert row.parameters == pytest.approx(151e6, abs=0.5e6)
