"""Every figure there is: its name, what it says, and what draws it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from remora.core.colours import LIGHT, Palette
from remora.lab.report.figures import curves, distributions, overhead, stalls, warmup
from remora.lab.report.figures.canvas import VARIANTS, Format, Sheet, Variant, saved, settings
from remora.lab.report.figures.inline import embedded, standalone
from remora.lab.report.palette import SENTINEL
from remora.lab.report.tables import TextTable
from remora.lab.results import Analysis, Curve, Trial

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
    data: str = ""
    """The CSV of its numbers, where it has one of its own."""
    table: Callable[[Analysis, Sequence[Trial]], str] | None = None
    """What is in ``data``, where nothing else writes it."""
    shown: Callable[[Analysis, Sequence[Trial]], tuple[TextTable, ...]] | None = None
    """Tables that the page has under the drawing."""
    beside: Callable[[Analysis, Sequence[Trial]], Mapping[str, str]] | None = None
    """Further files that go with it: by name, what is in them."""

    def drawn(self, analysis: Analysis, trials: Sequence[Trial]) -> Drawn:
        """The figure in every form. Same data, same bytes."""
        with settings():
            light = self.draw(analysis, trials, LIGHT, "wide")
            pdf, png = saved(light, "pdf"), saved(light, "png")
            wide, narrow = (
                saved(self.draw(analysis, trials, SENTINEL, variant), "svg").decode()
                for variant in VARIANTS
            )
        return Drawn(
            figure=self,
            files={
                "pdf": pdf,
                "svg": standalone(wide, self.alternative).encode(),
                "png": png,
            },
            wide=embedded(wide, f"{self.name}-wide", self.alternative),
            narrow=embedded(narrow, f"{self.name}-narrow", self.alternative),
            tables=self.shown(analysis, trials) if self.shown is not None else (),
            beside=self.beside(analysis, trials) if self.beside is not None else {},
        )


@dataclass(frozen=True)
class Drawn:
    """A figure as files in the light theme, and as ``<svg>`` elements in the page's colours."""

    figure: Figure
    files: Mapping[Format, bytes]
    wide: str
    narrow: str
    tables: tuple[TextTable, ...] = ()
    beside: Mapping[str, str] = field(default_factory=dict)


FIGURES = (
    Figure(
        "overhead",
        "Overhead",
        "Step time as a ratio to native measured in the same blocks, with its interval. Inside the "
        "margin counts as no cost; inside the noise floor nothing is claimed. Where "
        "ratios lie far apart, a closer view of those near native is added; an arrow at its edge "
        "stands for an arm beyond it.",
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


def drawn_figures(
    analysis: Analysis, trials: Sequence[Trial], own: Sequence[Figure] = ()
) -> list[Drawn]:
    """The figures for which there is anything to draw; the experiment's ``own`` come first."""
    figures = [*own, *map(of_curve, analysis.plan.curves), *FIGURES]
    return [f.drawn(analysis, trials) for f in figures if f.drawable(analysis, trials)]


_READ = {
    "throughput": "Work a second as a ratio to native in the same blocks, from the first "
    "checkpoint until the last is durable, with its interval. 1 is a job that does not notice.",
    "slowdown": "Time a step as a ratio to native in the same blocks, from the first checkpoint "
    "until the last is durable, with its interval. 1 is a job that does not notice.",
    "durable_ms": "Mean time from asking for a checkpoint until it is durable; the line through "
    "each mark reaches from the shortest to the longest of all checkpoints.",
}


def of_curve(curve: Curve) -> Figure:
    """The figure of one curve of the plan."""

    def drawable(analysis: Analysis, trials: Sequence[Trial]) -> bool:
        return curves.drawable(analysis, curve)

    def draw(
        analysis: Analysis, trials: Sequence[Trial], palette: Palette, variant: Variant
    ) -> Sheet:
        return curves.draw(analysis, curve, palette, variant)

    return Figure(
        curve.name,
        curve.title,
        _READ[curve.quantity],
        f"{curve.title}: one line a system; the numbers are those of curve-{curve.name}.csv.",
        drawable,
        draw,
        data=f"curve-{curve.name}.csv",
    )
