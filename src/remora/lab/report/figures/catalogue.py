"""Every figure there is: its name, what it says, and what draws it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from remora.lab.report.figures import distributions, overhead, stalls, warmup
from remora.lab.report.figures.canvas import Format, Sheet, Variant, saved, settings
from remora.lab.report.figures.inline import embedded, standalone
from remora.lab.report.palette import LIGHT, SENTINEL, Palette
from remora.lab.results import Analysis, Trial

Draw = Callable[[Analysis, Sequence[Trial], Palette, Variant], Sheet]


@dataclass(frozen=True)
class Figure:
    """One figure. ``caption`` says how to read it; ``alternative`` is for who cannot see it."""

    name: str
    title: str
    caption: str
    alternative: str
    drawable: Callable[[Analysis, Sequence[Trial]], bool]
    draw: Draw

    def file(self, analysis: Analysis, trials: Sequence[Trial], form: Format) -> bytes:
        """The figure as a file of its own, in the light theme."""
        with settings():
            data = saved(self.draw(analysis, trials, LIGHT, "wide"), form)
        return standalone(data.decode(), self.alternative).encode() if form == "svg" else data

    def embed(self, analysis: Analysis, trials: Sequence[Trial], variant: Variant) -> str:
        """The figure as an ``<svg>`` element in the page's own colours."""
        with settings():
            drawn = saved(self.draw(analysis, trials, SENTINEL, variant), "svg").decode()
        return embedded(drawn, f"{self.name}-{variant}", self.alternative)


FIGURES = (
    Figure(
        "overhead",
        "Overhead",
        "Step time as a ratio to native measured in the same blocks, with its interval. Inside the "
        "margin counts as no cost; inside the noise floor nothing is claimed.",
        "Ratio of step time to native with its interval, one row an arm; the numbers are those of "
        "the summary table.",
        overhead.drawable,
        overhead.draw,
    ),
    Figure(
        "distributions",
        "Step times",
        "Bars show the settled steps of all trials, outliers kept; circles show each trial’s mean, "
        "which is what the comparison is made of.",
        "Quantiles of settled step times and the mean of each trial, one row an arm; the means are "
        "those of the table of trials.",
        distributions.drawable,
        distributions.draw,
    ),
    Figure(
        "warmup",
        "Warm-up",
        "Every step of every trial, in order. The circle marks where a trial was found to have "
        "settled; a line without one never did. Each panel has its own axis.",
        "Step time against step index for every trial, one panel an arm; where each settled is in "
        "the table of trials.",
        warmup.drawable,
        warmup.draw,
    ),
    Figure(
        "stalls",
        "Stalls",
        "How long each checkpoint held the training loop up, every checkpoint of every trial.",
        "Stall of each checkpoint, one row an arm; the means are those of the summary table.",
        stalls.drawable,
        stalls.draw,
    ),
)


def figures_for(analysis: Analysis, trials: Sequence[Trial]) -> list[Figure]:
    """The figures for which there is anything to draw."""
    return [figure for figure in FIGURES if figure.drawable(analysis, trials)]
