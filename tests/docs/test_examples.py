"""The documentation's Python is Python, and what it shows is what one gets."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from tests.docs.markdown import ROOT, Block, Page, page

PLUGIN = ROOT / "examples" / "remora-example-plugin"
_NUMBER = re.compile(r"[\d,.]+ (?:ms|µs|s)\b")


def python_blocks(pages: list[Page]) -> list[Block]:
    return [block for each in pages for block in each.blocks if block.language == "python"]


def test_every_python_example_compiles(pages: list[Page]) -> None:
    blocks = python_blocks(pages)
    assert len(blocks) >= 8
    for block in blocks:
        compile(textwrap.dedent(block.text), str(block), "exec")


@pytest.mark.parametrize("name", ["docs/adding-a-system.md", "docs/adding-a-workload.md"])
def test_the_walk_through_quotes_the_example_word_for_word(name: str) -> None:
    source = "\n".join(file.read_text() for file in PLUGIN.rglob("src/**/*.py"))
    settings = (PLUGIN / "pyproject.toml").read_text()
    for block in page(name).blocks:
        if block.language == "python":
            assert block.text in source, block
        if block.language == "toml":
            assert all(line in settings for line in block.text.splitlines()), block


def test_the_page_on_checking_shows_what_one_gets(tmp_path: Path) -> None:
    script = example("docs/check.md", "train.py")
    shown = next(b.text for b in page("docs/check.md").blocks if "remora check: step 0" in b.text)
    listed = next(b.text for b in page("docs/check.md").blocks if b.text.startswith("changes: "))
    (tmp_path / "train.py").write_text(script)
    learned = run(tmp_path, "-m", "remora", "run", "--learn", "healthy.inv", "train.py")
    assert learned.returncode == 0, learned.stdout
    whole = run(tmp_path, "-m", "remora", "invariants", "show", "healthy.inv").stdout
    assert f"\n{listed}\n" in whole
    broken = [line for line in script.splitlines() if "zero_grad" not in line]
    (tmp_path / "train.py").write_text("\n".join(broken))
    said = run(tmp_path, "-m", "remora", "run", "--check", "healthy.inv", "train.py")
    assert said.returncode == 0
    assert shown in said.stdout.replace(f"{tmp_path}/", "")


def example(name: str, file: str) -> str:
    """The Python block of page ``name`` that begins with the comment ``# file``."""
    (found,) = (b.text for b in page(name).blocks if b.text.startswith(f"# {file}\n"))
    return found


def masked(text: str) -> str:
    """``text`` with every duration blanked."""
    return _NUMBER.sub("… s", text).strip()


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "train.py").write_text(example("docs/quickstart.md", "train.py"))
    return tmp_path


@pytest.mark.parametrize("name", ["README.md", "docs/quickstart.md"])
def test_remora_run_prints_what_is_shown(folder: Path, name: str) -> None:
    (session,) = (b for b in page(name).blocks if b.text.startswith("$ remora run"))
    command, shown = session.text.split("\n", 1)
    done = run(folder, "-m", *command.removeprefix("$ ").split())
    assert done.returncode == 0
    assert masked(done.stdout) == masked(shown)


def test_the_example_of_a_service_counts_the_steps(folder: Path) -> None:
    (folder / "count.py").write_text(example("docs/running.md", "count.py"))
    done = run(folder, "count.py")
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "80 steps")


def test_the_checkpointed_loop_resumes_and_its_slots_open_without_us(tmp_path: Path) -> None:
    for name in ("train.py", "weights.py"):
        (tmp_path / name).write_text(example("docs/checkpoint.md", name))
    assert run(tmp_path, "train.py").stdout == "from step 0\n"
    assert run(tmp_path, "train.py").stdout == "from step 300\n"
    opened = run(tmp_path, "weights.py").stdout.splitlines()
    assert len(opened) >= 3
    assert {line.split(maxsplit=1)[1] for line in opened} == {"(1, 16)"}


def test_the_results_can_be_read_as_shown(results_folder: Path, tmp_path: Path) -> None:
    from remora.lab.analysis import analyse_folder
    from remora.lab.folder import Folder
    from remora.lab.report import render

    render(results_folder, *analyse_folder(Folder.open(results_folder)))
    (tmp_path / "results").symlink_to(results_folder)
    plain, typed = (b.text for b in page("docs/results-format.md").blocks if b.language == "python")
    assert "micro-matmul-forward torch-save undecided" in run(tmp_path, "-c", plain).stdout
    assert "b00-00-micro-matmul-forward" in run(tmp_path, "-c", typed).stdout


@pytest.mark.slow
def test_the_error_shown_is_the_error_given(folder: Path) -> None:
    (session,) = (b for b in page("docs/errors.md").blocks if b.language == "console")
    command, shown = session.text.split("\n", 1)
    done = run(folder, "-m", *command.removeprefix("$ ").split())
    assert (done.returncode, done.stdout) == (2, shown)


def test_every_user_error_is_listed() -> None:
    tree = ast.parse((ROOT / "src" / "remora" / "core" / "errors.py").read_text())
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef)]
    users = {c.name for c in classes for b in c.bases if getattr(b, "id", "") == "UserError"}
    listed = set(re.findall(r"^\| `(\w+)` \|", page("docs/errors.md").text, re.MULTILINE))
    assert users <= listed
