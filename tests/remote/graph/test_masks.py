"""Masks of the two kinds."""

from __future__ import annotations

import pytest
import torch
from tests.remote.graph.made import CPU

from remora.remote.graph.masks import fits, mask_for
from remora.remote.graph.nodes import Value

ADDED = Value(2, "float32", (-1, 1, -1, -1))
KEPT = Value(2, "int64", (-1, -1))
LEAST = torch.finfo(torch.float32).min


def test_added_to_scores_it_hides_pads_and_later_tokens() -> None:
    mask = mask_for(ADDED, 2, 3, torch.tensor([0, 2]), CPU)
    assert mask.shape == (2, 1, 2, 5)
    seen = (mask[:, 0] == 0).int().tolist()
    assert seen[0] == [[1, 1, 1, 1, 0], [1, 1, 1, 1, 1]]
    assert seen[1] == [[0, 0, 1, 1, 0], [0, 0, 1, 1, 1]]
    assert set(mask.flatten().tolist()) == {0.0, LEAST}


def test_kept_tokens_are_all_but_the_pads() -> None:
    mask = mask_for(KEPT, 2, 3, torch.tensor([0, 2]), CPU)
    assert mask.tolist() == [[1, 1, 1, 1, 1], [0, 0, 1, 1, 1]]
    assert mask.dtype is torch.int64


def test_it_has_the_dtype_that_the_model_takes() -> None:
    value = Value(2, "bfloat16", (-1, 1, -1, -1))
    mask = mask_for(value, 2, 0, torch.tensor([0]), CPU)
    assert mask.dtype is torch.bfloat16
    assert mask.isfinite().all()


@pytest.mark.parametrize("value", [ADDED, KEPT])
def test_both_kinds_fit(value: Value) -> None:
    assert fits(value)


@pytest.mark.parametrize(
    "value",
    [
        Value(2, "int64", (-1, 1, -1, -1)),
        Value(2, "float32", (-1, -1)),
        Value(2, "float32", (2, 1, -1, -1)),
        Value(2, "complex64", (-1, 1, -1, -1)),
        Value(2, "int64", (-1, 7)),
    ],
)
def test_others_do_not(value: Value) -> None:
    assert not fits(value)
