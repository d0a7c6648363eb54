"""Tokens in files: read as they are, and refused in words where they are none."""

from __future__ import annotations

from pathlib import Path

import pytest

from remora.core.errors import BadValue
from remora.core.token import read_token_text


def test_white_space_around_it_is_not_part_of_it(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("  0123456789abcdef\n")
    assert read_token_text(tmp_path / "token") == "0123456789abcdef"


def test_no_file_is_no_token() -> None:
    assert read_token_text(None) == ""


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"short", "has 5 characters"),
        (b"\xff" * 32, "is no text in UTF-8"),
    ],
)
def test_what_is_no_secret_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "token").write_bytes(content)
    with pytest.raises(BadValue, match=message):
        read_token_text(tmp_path / "token")


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadValue, match="absent"):
        read_token_text(tmp_path / "absent")
