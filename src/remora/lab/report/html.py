"""One self-contained HTML page: the template, filled."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import jinja2
from markupsafe import Markup

from remora.core.colours import DARK, LIGHT, css_variables
from remora.lab.report import numbers
from remora.lab.report.figures import Drawn
from remora.lab.report.page import build_page
from remora.lab.report.tables import Answers, cost_title, interval_text, mean, noise_sentence
from remora.lab.results import Analysis, Trial


def page_html(
    analysis: Analysis,
    trials: Sequence[Trial],
    folder: Path,
    figures: Sequence[Drawn],
    answered: Answers | None = None,
) -> str:
    """The whole page. ``folder`` is only named, in the commands that run an arm again.

    Args:
        answered: what the experiment answers itself, where that is not what arms cost.
    """
    environment = _environment()
    style = environment.get_template("style.css").render(
        light=css_variables(LIGHT), dark=css_variables(DARK)
    )
    page = build_page(analysis, trials, folder, figures, answered)
    text = environment.get_template("page.html.j2").render(page=page, style=Markup(style)) + "\n"
    return "".join(
        part if part.startswith("<svg") else part.replace(" %", "\N{NO-BREAK SPACE}%")
        for part in re.split("(<svg.*?</svg>)", text, flags=re.DOTALL)
    )  # a number and its sign stay on one line


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("remora.lab.report", "template"),
        autoescape=lambda name: name is None or not name.endswith(".css"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    writers = (numbers.significant, numbers.count, numbers.ratio, numbers.overhead, numbers.share,
               numbers.p_value, numbers.effect, mean, interval_text, noise_sentence,
               cost_title)  # fmt: skip
    environment.filters |= {writer.__name__: writer for writer in writers}
    environment.filters["drawing"] = Markup
    return environment
