"""The report's folder: complete, repeatable, and refused in one line where it cannot be written."""

from pathlib import Path

import msgspec
import pytest

from remora.core.errors import ResultsUnusable
from remora.lab.report import Rendered, render
from remora.lab.results import Analysis, Trial


def test_everything_is_written_and_nothing_else(rendered: Rendered) -> None:
    files = {str(p.relative_to(rendered.folder)) for p in rendered.folder.rglob("*") if p.is_file()}
    names = ("overhead", "distributions", "warmup", "stalls")
    figures = {f"figures/{name}.{form}" for name in names for form in ("pdf", "svg", "png")}
    plain = {"index.html", "results.json", "summary.csv", "trials.csv", "summary.md", "summary.tex"}
    assert files == figures | plain
    assert {path.name for path in rendered.figures} == {Path(name).name for name in figures}


def test_results_json_is_the_analysis(
    rendered: Rendered, results: tuple[Analysis, list[Trial]]
) -> None:
    data = rendered.results.read_bytes()
    assert msgspec.json.decode(data, type=Analysis) == results[0]
    assert data.startswith(b'{\n  "version": 1')


@pytest.mark.parametrize("kind", ["begun", "all_failed"])
def test_rendering_again_changes_nothing(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    analysis, trials = request.getfixturevalue(kind)
    first = render(tmp_path, analysis, trials)
    before = {p: p.read_bytes() for p in first.folder.rglob("*") if p.is_file()}
    second = render(tmp_path, analysis, trials)
    after = {p: p.read_bytes() for p in first.folder.rglob("*") if p.is_file()}
    assert second == first
    assert after == before


def test_a_folder_that_cannot_be_written_is_said_in_one_line(
    tmp_path: Path, begun: tuple[Analysis, list[Trial]]
) -> None:
    (tmp_path / "report").write_text("in the way")
    with pytest.raises(ResultsUnusable, match="cannot write the report") as caught:
        render(tmp_path, *begun)
    assert "\n" not in str(caught.value)
