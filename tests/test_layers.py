"""Imports go down, never up or sideways: design.md's picture, proven on the code."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / "src" / "remora"
LAYERS: list[set[str]] = [
    {"core"},
    {"tap"},
    {"check", "checkpoint", "share"},
    {"remote"},
    {"workloads"},
    {"systems"},
    {"lab"},
    {"experiments"},
    {"cli"},
]
"""From the ground up. Remote may use share; no other service imports another."""
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}
FORBIDDEN = {("remote", "check"), ("remote", "checkpoint")}
LAB_KNOWS_NO = {"tap", "check", "checkpoint", "share", "remote"}


def imports(path: Path) -> Iterator[str]:
    """Every ``remora`` module that ``path`` imports, at whatever depth in the code."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module
            if node.module == "remora":
                yield from (f"remora.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            raise AssertionError(f"{path}: relative imports hide the layer")


def layer_of(module: str) -> str | None:
    parts = module.split(".")
    return parts[1] if parts[0] == "remora" and len(parts) > 1 and parts[1] in RANK else None


FILES = [path for path in sorted(ROOT.rglob("*.py")) if path.parent != ROOT]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_down(path: Path) -> None:
    own = path.relative_to(ROOT).parts[0]
    for module in imports(path):
        other = layer_of(module)
        if other is None or other == own:
            continue
        assert RANK[other] < RANK[own], f"{own} imports {module}"
        assert (own, other) not in FORBIDDEN, f"{own} imports {module}"
        assert not (own == "lab" and other in LAB_KNOWS_NO), f"the lab imports {module}"


def test_every_folder_has_its_layer() -> None:
    folders = {path.name for path in ROOT.iterdir() if (path / "__init__.py").exists()}
    assert folders <= set(RANK)
