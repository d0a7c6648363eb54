"""The README's pictures and sample, from a real results folder.

``python docs/pictures.py remora-results/quick-…`` writes docs/images/report.png (the page's top, in
headless Chromium), docs/images/overhead.png (the figure, as the report has it), and the sample
between the README's two comments ``sample`` and ``end of sample``.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from pathlib import Path

from remora.core.units import format_bytes
from remora.lab.analysis import analyse_folder
from remora.lab.folder import Folder
from remora.lab.report import Rendered, numbers, render
from remora.lab.results import Analysis, Comparison

ROOT = Path(__file__).parent.parent
IMAGES = ROOT / "docs" / "images"
README = ROOT / "README.md"
WIDTH_PX, HEIGHT_PX = 1180, 1400
_SAMPLE = re.compile("<!-- sample -->.*<!-- end of sample -->", re.DOTALL)


def main(folder: Path) -> None:
    analysis, trials = analyse_folder(Folder.open(folder))
    rendered = render(folder, analysis, trials)
    IMAGES.mkdir(exist_ok=True)
    photograph(rendered.page, IMAGES / "report.png")
    shutil.copy(_figure(rendered, "overhead.png"), IMAGES / "overhead.png")
    text = f"<!-- sample -->\n\n{sample(analysis)}\n\n<!-- end of sample -->"
    README.write_text(_SAMPLE.sub(lambda _: text, README.read_text(encoding="utf-8")))


def photograph(page: Path, picture: Path) -> None:
    """The first screen of ``page``, light, as a PNG."""
    with tempfile.TemporaryDirectory() as profile:
        subprocess.run(
            [
                *("chromium", "--headless=new", "--no-sandbox", "--disable-gpu"),
                *("--hide-scrollbars", f"--user-data-dir={profile}"),
                f"--window-size={WIDTH_PX},{HEIGHT_PX}",
                f"--screenshot={picture.resolve()}",
                page.resolve().as_uri(),
            ],
            check=True,
            capture_output=True,
            timeout=120,
        )


def sample(analysis: Analysis) -> str:
    """The verdicts as Markdown, and where they were measured."""
    return "\n".join([textwrap.fill(_conditions(analysis), 100), "", *_rows(analysis)])


def _conditions(analysis: Analysis) -> str:
    plan, environment = analysis.plan, analysis.environment.before
    machine = environment.machine
    device = environment.device.get("name") or f"{machine['cores']} cores of {machine['cpu']}"
    memory = format_bytes(float(machine["memory_bytes"] or 0))
    floors = ", ".join(f"±{each.floor * 100:.1f} % for {each.workload}" for each in analysis.noise)
    return (
        f"`remora bench {plan.experiment}` on {device} with {memory} of memory, torch "
        f"{environment.versions['torch']}, {plan.blocks} blocks, {plan.created[:10]}. "
        f"Noise floor: {floors}."
    )


def _rows(analysis: Analysis) -> Iterator[str]:
    yield "| workload | system | × native | verdict |"
    yield "| --- | --- | ---: | --- |"
    for row in analysis.comparisons:
        yield f"| {row.workload} | {row.label} | {_ratio(row)} | {row.sentence} |"


def _ratio(row: Comparison) -> str:
    return numbers.ratio(row.ratio).removesuffix("×")


def _figure(rendered: Rendered, name: str) -> Path:
    return next(path for path in rendered.figures if path.name == name)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python docs/pictures.py RESULTS_FOLDER")
    main(Path(sys.argv[1]))
