"""CSV, Markdown and LaTeX, compared whole with files that were read by eye.

After a wanted change, write the files anew: ``python tests/lab/report/test_text_formats.py``.
"""

import csv
import importlib.util
import io
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from remora.lab.report.delimited import summary_csv, trials_csv
from remora.lab.report.latex import escape as escape_latex
from remora.lab.report.latex import summary_latex
from remora.lab.report.markdown import escape as escape_markdown
from remora.lab.report.markdown import summary_markdown
from remora.lab.report.tables import arm_rows, trial_rows
from remora.lab.results import Analysis, Trial

Results = tuple[Analysis, list[Trial]]
GOLDEN = Path(__file__).parent / "golden"
FOLDER = Path("remora-results/a quick run")
DOCUMENT = r"""\documentclass{article}
\usepackage[margin=1in]{geometry}
\usepackage{booktabs}
\begin{document}
\input{summary.tex}
\end{document}
"""


def texts(analysis: Analysis, trials: list[Trial]) -> dict[str, str]:
    return {
        "summary.csv": summary_csv(arm_rows(analysis)),
        "trials.csv": trials_csv(trial_rows(analysis, trials)),
        "summary.md": summary_markdown(analysis, FOLDER),
        "summary.tex": summary_latex(analysis),
    }


@pytest.mark.parametrize("name", ["summary.csv", "trials.csv", "summary.md", "summary.tex"])
def test_text_is_what_was_agreed(results: Results, name: str) -> None:
    assert texts(*results)[name] == (GOLDEN / name).read_text(encoding="utf-8")


def test_csv_holds_one_row_an_arm_and_one_a_trial(results: Results) -> None:
    analysis, trials = results
    written = texts(analysis, trials)
    arms = list(csv.DictReader(io.StringIO(written["summary.csv"])))
    rows = list(csv.DictReader(io.StringIO(written["trials.csv"])))
    assert [(a["workload"], a["label"]) for a in arms] == [
        (arm.workload, arm.label) for arm in analysis.plan.arms
    ]
    assert {row["id"] for row in rows} == {trial.spec.id for trial in trials}
    settrace = next(arm for arm in arms if arm["label"] == "settrace")
    comparison = next(c for c in analysis.comparisons if c.label == "settrace")
    assert float(settrace["ratio"]) == comparison.ratio


def test_invalid_percentile_is_never_a_number(results: Results) -> None:
    arms = list(csv.DictReader(io.StringIO(texts(*results)["summary.csv"])))
    idle = next(arm for arm in arms if arm["label"] == "idle")
    assert (idle["p99_ms"], idle["p99_valid"]) == ("", "false")
    assert idle["p99_reason"]


def test_markdown_shows_names_verbatim() -> None:
    assert escape_markdown("<b>_x_|y") == r"\<b\>\_x\_\|y"


def test_latex_shows_names_verbatim() -> None:
    assert escape_latex("50%_a&b$") == r"50\%\_a\&b\$"
    assert escape_latex("--resume") == "-{}-resume"
    assert escape_latex("é中") == "e[U+4E2D]"


@pytest.mark.parametrize("kind", ["results", "begun", "native_only", "all_failed"])
def test_latex_compiles(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    if shutil.which("pdflatex") is None:
        pytest.skip("pdflatex is not installed; apt-get install texlive-latex-recommended")
    analysis, _ = request.getfixturevalue(kind)
    (tmp_path / "summary.tex").write_text(summary_latex(analysis), encoding="utf-8")
    (tmp_path / "paper.tex").write_text(DOCUMENT, encoding="utf-8")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "paper.tex"]
    ran = subprocess.run(
        command, cwd=tmp_path, capture_output=True, timeout=60, check=False, text=True
    )
    assert ran.returncode == 0, ran.stdout[-2000:]
    assert (tmp_path / "paper.pdf").stat().st_size > 0
    assert "Overfull" not in ran.stdout


@pytest.mark.parametrize("kind", ["begun", "native_only", "all_failed"])
def test_sparse_results_read_sensibly(kind: str, request: pytest.FixtureRequest) -> None:
    analysis, trials = request.getfixturevalue(kind)
    markdown = texts(analysis, trials)["summary.md"]
    assert "None" not in markdown
    assert "nan" not in markdown
    said = {"begun": "**Incomplete:**", "native_only": "baseline", "all_failed": "| failed |"}
    assert said[kind] in markdown


def _write_golden() -> None:
    location = Path(__file__).with_name("conftest.py")
    spec = importlib.util.spec_from_file_location("made", location)
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    sys.modules["made"] = made
    spec.loader.exec_module(made)
    for name, text in texts(*made.made_results()).items():
        (GOLDEN / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    _write_golden()
