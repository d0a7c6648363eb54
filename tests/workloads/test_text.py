"""Tokens, drawn and read."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from remora.core.errors import BadValue
from remora.workloads import registry
from remora.workloads.text import draw_tokens, read_tokens

CPU = torch.device("cpu")


@given(seed=st.integers(0, 2**31), vocabulary=st.integers(1, 300_000))
def test_drawn_tokens_are_below_the_vocabulary(seed: int, vocabulary: int) -> None:
    ids = draw_tokens((2, 50), vocabulary, seed)
    assert ids.shape == (2, 50)
    assert 0 <= int(ids.min()) <= int(ids.max()) < vocabulary


def test_drawn_tokens_follow_zipf() -> None:
    ids = draw_tokens((200_000,), 10_000, seed=0)
    first, tenth = (ids == 0).sum().item(), (ids == 9).sum().item()
    assert first / tenth == pytest.approx(0.6931 / 0.0953, rel=0.15)  # ln 2 to ln 11/10


def test_read_tokens_are_ranks_by_frequency(tmp_path: Path) -> None:
    text = tmp_path / "text"
    text.write_text("b a b c a b d")
    assert read_tokens(text, (7,), vocabulary=10).tolist() == [0, 1, 0, 2, 1, 0, 3]
    assert read_tokens(text, (7,), vocabulary=3).tolist() == [0, 1, 0, 2, 1, 0, 2]
    assert read_tokens(text, (2, 5), vocabulary=10).tolist() == [[0, 1, 0, 2, 1], [0, 3, 0, 1, 0]]


def test_a_file_trains_a_model(tmp_path: Path) -> None:
    text = tmp_path / "text"
    text.write_text("the sea is wide and the remora is small " * 40)
    losses = {
        registry.get("gpt2-train").build("quick", CPU, data=data).step().digest
        for data in (None, text)
    }
    assert len(losses) == 2


@pytest.mark.parametrize(
    ("content", "complaint"),
    [(b"", "has no words"), (b"\xff\xfe\x00", "is not UTF-8 text"), (None, "does not exist")],
)
def test_unreadable_text_is_refused_in_one_line(
    tmp_path: Path, content: bytes | None, complaint: str
) -> None:
    path = tmp_path / "text"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(BadValue, match=complaint) as refusal:
        read_tokens(path, (4,), 10)
    assert "\n" not in str(refusal.value)


def test_a_folder_is_no_text(tmp_path: Path) -> None:
    with pytest.raises(BadValue, match="is a folder"):
        registry.get("word-lm-train").build("quick", CPU, data=tmp_path)
