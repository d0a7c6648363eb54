"""Waiting for an import: told once, with the module as Python would have made it."""

from __future__ import annotations

import importlib
import importlib.util
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from remora.tap.imports import ImportWatch


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if name.startswith("awaited"):
            del sys.modules[name]


def test_an_imported_module_is_told_at_once() -> None:
    told: list[str] = []
    ImportWatch().when_imported("sys", lambda: told.append("sys"))

    assert told == ["sys"]


def test_two_watches_wait_for_one_module(folder: Path) -> None:
    (folder / "awaited_one.py").write_text("VALUE = 1\n")
    told: list[int] = []
    finders = list(sys.meta_path)
    for number in range(2):
        ImportWatch().when_imported("awaited_one", partial(told.append, number))
    module = importlib.import_module("awaited_one")

    assert sorted(told) == [0, 1]
    assert sys.meta_path == finders
    assert module.__spec__ is not None
    assert type(module.__spec__.loader).__name__ == "SourceFileLoader"
    assert module.__loader__ is module.__spec__.loader


def test_an_import_that_fails_is_waited_for_again(folder: Path) -> None:
    file = folder / "awaited_two.py"
    file.write_text("1 / 0\n")
    told: list[int] = []
    ImportWatch().when_imported("awaited_two", lambda: told.append(1))
    with pytest.raises(ZeroDivisionError):
        importlib.import_module("awaited_two")
    assert told == []
    file.write_text("VALUE = 'now it works'\n")
    importlib.invalidate_caches()
    importlib.import_module("awaited_two")

    assert told == [1]


def test_asking_whether_a_module_exists_is_no_import(folder: Path) -> None:
    (folder / "awaited_three.py").write_text("")
    told: list[int] = []
    stop = ImportWatch().when_imported("awaited_three", lambda: told.append(1))
    spec = importlib.util.find_spec("awaited_three")
    stop()

    assert spec is not None
    assert spec.origin == str(folder / "awaited_three.py")
    assert told == []


def test_the_traceback_of_a_failing_import_does_not_name_us(tmp_path: Path) -> None:
    (tmp_path / "awaited_four.py").write_text("def f(): 1 / 0\nf()\n")
    (tmp_path / "script.py").write_text("import awaited_four\n")
    command = [sys.executable, "-m", "remora", "run", "--watch", "awaited_four.f", "script.py"]
    plain = subprocess.run(
        [sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    watched = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    assert watched.returncode == plain.returncode == 1
    assert watched.stderr.startswith(plain.stderr)
