"""The parts of these pages that are read from the code, so that they cannot drift from it.

``python docs/generate.py`` rewrites them; ``tests/docs/test_generated.py`` fails while they are
out of date. A generated part of a page stands between two comments:

    <!-- generated: NAME -->
    <!-- end of NAME -->
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path

import msgspec

from remora.core.units import format_seconds
from remora.experiments import registry as experiments
from remora.lab.design import Effort
from remora.lab.results import schema
from remora.systems import registry as systems
from remora.workloads import registry as workloads

DOCS = Path(__file__).parent
PACKAGE = DOCS.parent / "src" / "remora"
SCHEMA = DOCS / "results-schema.json"


def generated() -> dict[Path, bytes]:
    """Every file with generated parts, as it should be."""
    pages = {DOCS / page: _filled(DOCS / page, parts) for page, parts in _PARTS.items()}
    return {path: text.encode() for path, text in pages.items()} | {SCHEMA: schema_json()}


def schema_json() -> bytes:
    """The JSON Schema of everything in a results folder."""
    return msgspec.json.format(msgspec.json.encode(schema()), indent=2) + b"\n"


def _filled(page: Path, parts: Mapping[str, Callable[[], str]]) -> str:
    text = page.read_text(encoding="utf-8")
    for name, write in parts.items():
        opening, closing = f"<!-- generated: {name} -->", f"<!-- end of {name} -->"
        if (text.count(opening), text.count(closing)) != (1, 1):
            raise ValueError(f"{page} must hold the part {opening} … {closing} once")
        before, after = text.split(opening)[0], text.split(closing)[1]
        text = f"{before}{opening}\n\n{write()}\n\n{closing}{after}"
    return text


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", r"\|") for cell in row) + " |"
                     for row in lines)  # fmt: skip


# ---------------------------------------------------------------- the parts


def _workloads() -> str:
    """Ours only: what other packages add depends on where this is run."""
    described = [
        each
        for each in workloads.describe("paper")
        if type(each.workload).__module__.startswith("remora.")
    ]
    return table(
        ("name", "mode", "sizes at `paper` scale", "source"),
        ([f"`{d.name}`", d.mode, _sizes(d.sizes), d.source] for d in described),
    )


def _sizes(sizes: Mapping[str, int | str]) -> str:
    return ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in sizes.items())


def _systems() -> str:
    rows = []
    for name in systems.names():
        system = systems.find(name)
        if system.__module__.startswith("remora."):
            options = ", ".join(f"`{f.name}={f.default}`" for f in fields(system))
            rows.append((f"`{name}`", system.title, options or "–"))
    return table(("name", "what it is", "settings and their defaults"), rows)


def _efforts() -> str:
    header = ("experiment", "scale", "stepping a trial", "blocks at most", "budget")
    rows = [
        (f"`{name}`", scale, *_effort(effort))
        for name in experiments.names()
        for scale, effort in experiments.get(name).efforts.items()
    ]
    return table((*header, "timeout", "executor"), rows)


def _effort(effort: Effort) -> tuple[str, ...]:
    budget = "none" if effort.budget_s is None else format_seconds(effort.budget_s)
    seconds, timeout = format_seconds(effort.seconds), format_seconds(effort.timeout_s)
    return seconds, str(effort.blocks), budget, timeout, effort.executor


def _modules() -> str:
    packages = sorted({path.parent for path in PACKAGE.rglob("*.py")})
    return "\n\n".join(_package(folder) for folder in packages)


def _package(folder: Path) -> str:
    name = folder.relative_to(PACKAGE.parent).as_posix()
    modules = sorted(path for path in folder.glob("*.py") if path.name != "__init__.py")
    lines = [f"- `{path.stem}`: {_first_sentence(path)}" for path in modules]
    return "\n".join([f"### `{name}/`", "", _first_sentence(folder / "__init__.py"), "", *lines])


def _first_sentence(path: Path) -> str:
    """Of the module's docstring, in Markdown: its first line, without reST's double backticks."""
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    if not docstring:
        raise ValueError(f"{path} has no docstring")
    line = docstring.splitlines()[0].replace("``", "`")
    return line if line.endswith((".", "?")) else f"{line}."


_PARTS: Mapping[str, Mapping[str, Callable[[], str]]] = {
    "workloads.md": {"workloads": _workloads},
    "systems.md": {"systems": _systems},
    "measuring.md": {"efforts": _efforts},
    "structure.md": {"modules": _modules},
}


def main() -> None:
    for path, content in generated().items():
        changed = not path.exists() or path.read_bytes() != content
        path.write_bytes(content)
        print(f"{'wrote' if changed else 'kept '} {path}")


if __name__ == "__main__":
    main()
