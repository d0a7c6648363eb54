"""Atomic writes: all or nothing, whatever fails."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from remora.core.files import write_atomically


def test_what_is_written_is_there(tmp_path: Path) -> None:
    write_atomically(tmp_path / "a", b"one")
    write_atomically(tmp_path / "a", b"two")
    assert (tmp_path / "a").read_bytes() == b"two"
    assert [each.name for each in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_failure_leaves_the_old_file_and_no_litter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    write_atomically(tmp_path / "a", b"old")

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(OSError, match="No space left"):
        write_atomically(tmp_path / "a", b"new")
    assert (tmp_path / "a").read_bytes() == b"old"
    assert [each.name for each in tmp_path.iterdir()] == ["a"]


def test_the_data_is_synced_before_the_rename_and_the_folder_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log: list[str] = []

    def logged(name: str, call: Callable[..., None]) -> Callable[..., None]:
        def run(*arguments: object) -> None:
            log.append(name)
            call(*arguments)

        return run

    monkeypatch.setattr(os, "fsync", logged("fsync", os.fsync))
    monkeypatch.setattr(os, "replace", logged("replace", os.replace))
    write_atomically(tmp_path / "a", b"data")
    assert log == ["fsync", "replace", "fsync"]
