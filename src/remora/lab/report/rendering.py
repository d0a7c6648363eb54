"""From a results folder's data to everything under ``<results>/report/``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from remora.core.errors import ResultsUnusable
from remora.core.files import write_atomically
from remora.lab.report.curves import panels
from remora.lab.report.delimited import curve_csv, summary_csv, trials_csv
from remora.lab.report.figures import Figure, drawn_figures
from remora.lab.report.html import page_html
from remora.lab.report.latex import summary_latex
from remora.lab.report.markdown import summary_markdown
from remora.lab.report.tables import Answers, arm_rows, trial_rows
from remora.lab.results import Analysis, Trial


@dataclass(frozen=True)
class Rendered:
    """Where everything lies. ``figures`` holds only those for which there was data."""

    folder: Path
    page: Path
    results: Path
    summary_csv: Path
    trials_csv: Path
    markdown: Path
    latex: Path
    figures: tuple[Path, ...]
    curves: tuple[Path, ...] = ()
    """The files beside the figures that the experiment asks for itself."""


def render(
    folder: Path,
    analysis: Analysis,
    trials: Sequence[Trial],
    own: Sequence[Figure] = (),
    answered: Answers | None = None,
) -> Rendered:
    """Write the report of the results in ``folder`` to ``folder/report/``, over an older one.

    Each file is whole or not there, and the same data gives the same bytes.

    Args:
        own: figures that the experiment adds to those that every report has.
        answered: what the experiment answers itself, where that is not what arms cost.

    Raises:
        ResultsUnusable: the folder is missing or cannot be written.
    """
    report = folder / "report"
    try:
        (report / "figures").mkdir(parents=True, exist_ok=True)
        return _write(report, folder, analysis, trials, own, answered)
    except OSError as error:
        raise ResultsUnusable(
            f"cannot write the report to {report}: {error.strerror or error}; "
            "make the folder writable, or free some space, and render again"
        ) from error


def _write(
    report: Path,
    folder: Path,
    analysis: Analysis,
    trials: Sequence[Trial],
    own: Sequence[Figure],
    answered: Answers | None,
) -> Rendered:
    def written(name: str, content: str | bytes) -> Path:
        path = report / name
        write_atomically(path, content.encode() if isinstance(content, str) else content)
        return path

    figures = drawn_figures(analysis, trials, own)
    return Rendered(
        folder=report,
        results=written("results.json", results_json(analysis)),
        summary_csv=written("summary.csv", summary_csv(arm_rows(analysis))),
        trials_csv=written("trials.csv", trials_csv(trial_rows(analysis, trials))),
        markdown=written("summary.md", summary_markdown(analysis, folder, figures, answered)),
        latex=written("summary.tex", summary_latex(analysis)),
        figures=tuple(
            written(f"figures/{drawn.figure.name}.{form}", data)
            for drawn in figures
            for form, data in drawn.files.items()
        ),
        curves=(
            *(
                written(f"curve-{curve.name}.csv", curve_csv(found))
                for curve in analysis.plan.curves
                if (found := panels(analysis, curve))
            ),
            *(
                written(drawn.figure.data, table(analysis, trials))
                for drawn in figures
                if (table := drawn.figure.table) is not None
            ),
            *(written(name, text) for drawn in figures for name, text in drawn.beside.items()),
        ),
        page=written("index.html", page_html(analysis, trials, folder, figures, answered)),
    )


def results_json(analysis: Analysis) -> bytes:
    """The analysis, indented, as ``results.json`` holds it."""
    return msgspec.json.format(msgspec.json.encode(analysis), indent=2) + b"\n"
