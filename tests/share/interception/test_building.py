"""Building the compiled hook: whole or not at all, told why not, and never in the user's way.

Compilers here are scripts of a line or two, but for one test.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from remora.core.errors import Unavailable
from remora.share.interception import building, registry
from remora.share.interception.building import Build
from remora.share.interception.compiled import Compiled

GOLDEN = Path(__file__).parent / "golden" / "messages.txt"
ROOT = Path(__file__).parents[3]
WRITES = 'for last; do :; done; while [ "$1" != -o ]; do shift; done; echo made > "$2"'

Scripted = Callable[[str], dict[str, str]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "hooks"


@pytest.fixture
def compiler(tmp_path: Path) -> Scripted:
    """An environment in which the compiler is a script."""

    def of(script: str) -> dict[str, str]:
        path = tmp_path / "compile"
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        return {"CXX": str(path), "PATH": os.environ["PATH"]}

    return of


def why(folder: Path, environ: Mapping[str, str], timeout_s: float = 60.0) -> str:
    with pytest.raises(Unavailable) as caught:
        Build(folder, environ, timeout_s, report=lambda line: None).build()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_what_is_said(
    folder: Path, tmp_path: Path, compiler: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocked, open_to_all = tmp_path / "blocked", tmp_path / "open"
    blocked.write_text("a file")
    open_to_all.mkdir()
    open_to_all.chmod(0o777)
    said = [
        why(folder, {"PATH": str(tmp_path)}),
        why(folder, {"CXX": "nowhere/c++ -pipe", "PATH": ""}),
        why(folder, compiler("echo 'hook.cpp:1: no such thing'; exit 4")),
        why(folder, compiler("sleep 600"), 0.2),
        why(blocked, compiler(WRITES)),
        why(open_to_all, compiler(WRITES)),
    ]
    broken = Compiled(Build(folder, compiler(WRITES)))
    with pytest.raises(Unavailable) as caught:
        broken.load()
    said.append(str(caught.value))
    headless = tmp_path / "torch" / "__init__.py"
    monkeypatch.setattr("torch.__file__", str(headless))
    said.append(why(tmp_path / "other", compiler(WRITES)))
    text = "\n\n".join(said).replace(str(tmp_path), "/home/ada")
    text = text.replace(building._key(building.SOURCE), "0123456789abcdef")
    assert text + "\n" == GOLDEN.read_text()


def test_a_failure_leaves_a_log_and_no_file(folder: Path, compiler: Scripted) -> None:
    message = why(folder, compiler("echo 'hook.cpp:1: no such thing' >&2; exit 4"))
    (log,) = folder.iterdir()
    assert str(log) in message
    command, output = log.read_text().splitlines()
    assert "hook.cpp" in command
    assert output == "hook.cpp:1: no such thing"
    Build(folder, compiler(WRITES)).build()
    assert [each.suffix for each in folder.iterdir()] == [".so"]


def test_what_a_compiler_starts_does_not_outlive_its_time(
    folder: Path, tmp_path: Path, compiler: Scripted
) -> None:
    started = tmp_path / "started"
    why(folder, compiler(f"sleep 600 & echo $! > {started}; wait"), 2.0)
    assert not _runs(int(started.read_text()))


def _runs(process: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{process}/stat").read_text().split(") ")[1][:1]
    except FileNotFoundError:
        return False


def test_it_is_built_once_and_anew_where_it_is_damaged(folder: Path, compiler: Scripted) -> None:
    build = Build(folder, compiler(f"{WRITES}; echo . >> $0.times"))
    times = Path(build.environ["CXX"] + ".times")
    assert build.built() is None
    path = build.build()
    assert (build.build(), build.built()) == (path, path)
    data = path.read_bytes()
    for damaged in (b"", data[:-1], data[:2] + b"?" + data[3:], data + b"."):
        path.write_bytes(damaged)
        assert build.built() is None
        assert build.build() == path
        assert path.read_bytes() == data
    path.chmod(0o722)
    assert build.built() is None, "others may have written it"
    build.build()
    assert times.read_text() == ".\n" * 6
    assert list(folder.iterdir()) == [path]


def test_another_source_or_torch_is_another_file(
    folder: Path, tmp_path: Path, compiler: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    environ, source = compiler(WRITES), tmp_path / "hook.cpp"
    source.write_text("int other;")
    paths = {Build(folder, environ).build(), Build(folder, environ, source=source).build()}
    monkeypatch.setattr("torch.__version__", "99.0")
    paths.add(Build(folder, environ).build())
    assert len(paths) == 3


def test_several_may_build_at_once(folder: Path, compiler: Scripted) -> None:
    build = Build(folder, compiler(f"sleep 0.2; {WRITES}"))
    found: list[Path] = []
    threads = [threading.Thread(target=lambda: found.append(build.build())) for _ in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert len(found) == 4
    assert list(folder.iterdir()) == [build.built()]


def test_a_long_build_is_said(folder: Path, compiler: Scripted) -> None:
    said: list[str] = []
    environ = compiler(f"sleep {building.SAID_AFTER_S + 0.5}; {WRITES}")
    Build(folder, environ, report=said.append).build()
    Build(folder, environ, report=said.append).build()
    assert said == ["remora: building the hook that stands before operators, once …"]


def test_the_best_is_the_twin_where_there_is_no_compiler_and_says_so_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("CXX", "nowhere/c++")
    said: list[str] = []
    assert [registry.best(said.append).name for _ in range(2)] == ["python", "python"]
    assert len(said) == 1
    assert said[0].startswith("remora: the compiled hook needs a C++ compiler")


def test_the_best_is_the_compiled_one() -> None:
    try:
        Build().build()
    except Unavailable as error:
        pytest.skip(str(error))
    said: list[str] = []
    assert registry.best(said.append).name == "compiled"
    assert said == []


def test_importing_it_builds_nothing_and_brings_no_torch(tmp_path: Path) -> None:
    code = (
        "import sys, remora.share.interception.registry as r, "
        "remora.share.interception.building as b; "
        "print('torch' in sys.modules, b.default_folder().exists())"
    )
    environ = os.environ | {"XDG_CACHE_HOME": str(tmp_path)}
    shown = subprocess.run(
        [sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=True
    )
    assert shown.stdout == "False False\n"


def test_the_source_is_in_the_wheel() -> None:
    from hatchling.builders.wheel import WheelBuilder

    included = {each.distribution_path for each in WheelBuilder(str(ROOT)).recurse_included_files()}
    assert "remora/share/interception/hook.cpp" in included


@pytest.mark.slow
def test_a_real_build(folder: Path) -> None:
    try:
        path = Build(folder).build()
    except Unavailable as error:
        pytest.skip(str(error))
    code = (
        "import array, sys, torch; from pathlib import Path; "
        "from remora.share.interception.building import Build; "
        "from remora.share.interception.compiled import Compiled; "
        "from remora.share.interception.contract import Gate; "
        "hook = Compiled(Build(Path(sys.argv[1]), {})); "
        "hook.begin(Gate(memoryview(array.array('I', [0, 0])), lambda: None)); "
        "torch.ones(1).add(1); hook.end(); print(hook.operators)"
    )
    shown = subprocess.run(
        [sys.executable, "-c", code, str(path.parent)], capture_output=True, text=True, check=True
    )
    assert shown.stdout == "2\n"
