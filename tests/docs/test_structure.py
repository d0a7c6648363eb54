"""The page on structure names the packages and modules that there are, and no others."""

from __future__ import annotations

import re
from pathlib import Path

from tests.docs.markdown import ROOT, page
from tests.test_layers import LAYERS

STRUCTURE = page("docs/structure.md")
PACKAGE = ROOT / "src" / "remora"


def named_modules() -> set[str]:
    """Paths below ``src/``, read off the page alone."""
    named, folder = set(), ""
    for line in STRUCTURE.text.splitlines():
        if heading := re.fullmatch(r"### `(remora[\w/]*)/`", line):
            folder = heading[1]
            named.add(folder)
        elif folder and (module := re.match(r"- `(\w+)`: \S", line)):
            named.add(f"{folder}/{module[1]}.py")
    return named


def modules_in(tree: Path) -> set[str]:
    files = [path.relative_to(tree.parent) for path in tree.rglob("*.py")]
    modules = {path.as_posix() for path in files if path.name != "__init__.py"}
    return modules | {path.parent.as_posix() for path in files}


def test_it_names_every_package_and_module_and_no_other() -> None:
    named, there = named_modules(), modules_in(PACKAGE)
    assert named - there == set(), "named, but not there; run: python docs/generate.py"
    assert there - named == set(), "there, but not named; run: python docs/generate.py"


def test_its_layers_are_those_that_the_imports_obey() -> None:
    (drawn,) = (b.text for b in STRUCTURE.blocks if b.text.startswith("cli "))
    shown = [line.split()[0] for line in drawn.splitlines()]
    there = {path.name for path in PACKAGE.iterdir() if (path / "__init__.py").exists()}
    ranks = {name: rank for rank, names in enumerate(LAYERS) for name in names}
    assert set(shown) == there
    assert shown == sorted(shown, key=lambda name: -ranks[name])


def test_every_file_it_mentions_is_there() -> None:
    mentioned = set(re.findall(r"`((?:remora|tests)/[\w/]+\.py)`", STRUCTURE.prose))
    assert len(mentioned) >= 8
    for name in mentioned:
        assert (ROOT / name).exists() or (ROOT / "src" / name).exists(), name


def test_every_dotted_module_the_pages_mention_is_there() -> None:
    for name in ("docs/adding-a-workload.md", "docs/adding-a-system.md", "docs/errors.md",
                 "docs/method.md", "docs/api.md"):  # fmt: skip
        for dotted in re.findall(r"\bremora((?:\.[a-z_]+)+)\b", page(name).text):
            path = PACKAGE.joinpath(*dotted.strip(".").split("."))
            known = path.is_dir() or path.with_suffix(".py").exists() or path.parent.is_dir()
            assert known or path.parent.with_suffix(".py").exists(), f"{name}: remora{dotted}"
