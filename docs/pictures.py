"""Pictures and samples of the pages, from real results folders.

``python docs/pictures.py FOLDER…`` takes folders of these experiments:

quick                  docs/images/report.png (the page's top, in headless Chromium) and
                       overhead.png (the figure, as the report has it), and the README's sample
checkpoint-throughput  docs/images/throughput.png, and the sample in docs/checkpoint.md

A sample lies between the comments ``sample`` and ``end of sample``.
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
from remora.lab.report.curves import Point, panels
from remora.lab.results import Analysis, Comparison

ROOT = Path(__file__).parent.parent
IMAGES = ROOT / "docs" / "images"
README, CHECKPOINTS = ROOT / "README.md", ROOT / "docs" / "checkpoint.md"
WIDTH_PX, HEIGHT_PX = 1180, 1400
_SAMPLE = re.compile("<!-- sample -->.*<!-- end of sample -->", re.DOTALL)


def main(folder: Path) -> None:
    analysis, trials = analyse_folder(Folder.open(folder))
    rendered = render(folder, analysis, trials)
    IMAGES.mkdir(exist_ok=True)
    if analysis.plan.experiment == "quick":
        photograph(rendered.page, IMAGES / "report.png")
        shutil.copy(_figure(rendered, "overhead.png"), IMAGES / "overhead.png")
        write_sample(README, [_conditions(analysis), "", *_rows(analysis)])
    else:
        shutil.copy(_figure(rendered, "throughput.png"), IMAGES / "throughput.png")
        write_sample(CHECKPOINTS, [_conditions(analysis), "", *_throughputs(analysis)])


def write_sample(page: Path, lines: list[str]) -> None:
    """Put ``lines``, of which the first is a paragraph, between the page's two comments."""
    text = "\n".join([textwrap.fill(lines[0], 100), *lines[1:]])
    marked = f"<!-- sample -->\n\n{text}\n\n<!-- end of sample -->"
    page.write_text(_SAMPLE.sub(lambda _: marked, page.read_text(encoding="utf-8")))


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


def _throughputs(analysis: Analysis) -> Iterator[str]:
    """A row a system, a column an interval; the first workload."""
    lines = panels(analysis, analysis.plan.curves[0])[0].lines
    columns = sorted({point.at for line in lines for point in line.points})
    yield f"| throughput × none, every | {' | '.join(f'{at:.0f}' for at in columns)} |"
    yield f"| --- |{' ---: |' * len(columns)}"
    for line in lines:
        cells = {point.at: _with_interval(point) for point in line.points}
        yield f"| {line.words} | {' | '.join(cells.get(at, numbers.NONE) for at in columns)} |"
    if not all(point.complete for line in lines for point in line.points):
        yield from (
            "",
            "† made fewer checkpoints than were asked for: storage could not take more.",
        )


def _with_interval(point: Point) -> str:
    fewer = "" if point.complete else " †"
    return f"{point.value:.3f} {numbers.interval(point.low, point.high)}{fewer}"


def _ratio(row: Comparison) -> str:
    return numbers.ratio(row.ratio).removesuffix("×")


def _figure(rendered: Rendered, name: str) -> Path:
    return next(path for path in rendered.figures if path.name == name)


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit("usage: python docs/pictures.py RESULTS_FOLDER…")
    for each in sys.argv[1:]:
        main(Path(each))
