"""``docs/performance.md``: one section a benchmark, each replaced whole when it is run again."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from remora.core.files import write_atomically
from remora.core.units import format_bytes
from remora.lab.environment import capture

PAGE = Path(__file__).parents[1] / "docs" / "performance.md"
INTRODUCTION = """# What Remora itself costs

Measured by the project's own benchmarks. `make bench` runs those that need no accelerator and
`make gpu-check` those that do; each replaces its section of this page.
"""


def table(columns: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> str:
    """A Markdown table whose first ``left`` columns are text and the others numbers."""
    rule = [":--" if place < left else "--:" for place in range(len(columns))]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (columns, rule, *rows))


def machine() -> str:
    """Where and when, in one sentence."""
    now = capture(threads=1)
    device = f", {now.device['name']}" if now.device else ""
    memory = format_bytes(float(now.machine["memory_bytes"] or 0))
    return (
        f"Measured {datetime.now(UTC):%Y-%m-%d} on {now.machine['cpu']}, "
        f"{now.machine['cores']} cores, {memory}{device}; "
        f"Python {now.versions['python']}, torch {now.versions['torch']}."
    )


def replace_section(name: str, title: str, body: str, page: Path = PAGE) -> None:
    """Put ``body`` into the section ``name`` of ``page``, at its end when it is new."""
    text = page.read_text() if page.exists() else INTRODUCTION
    section = f"<!-- {name}: begin -->\n## {title}\n\n{body.strip()}\n<!-- {name}: end -->\n"
    begin, end = re.escape(f"<!-- {name}: begin -->"), re.escape(f"<!-- {name}: end -->")
    pattern = re.compile(f"{begin}.*?{end}\n", re.DOTALL)
    if pattern.search(text):
        text = pattern.sub(lambda _: section, text)
    else:
        text = f"{text.rstrip()}\n\n{section}"
    write_atomically(page, text.encode())
