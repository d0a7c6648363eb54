"""What an experiment says: JSON, CSV, Markdown, LaTeX, figures and one HTML page.

Describes only: every number shown is in the :class:`~remora.lab.results.Analysis` or is a raw
sample of a :class:`~remora.lab.results.Trial`. No test is run and no interval is computed here.

    numbers     how a number is written
    tables      what the tables hold, as data
    delimited   CSV          markdown   Markdown          latex   LaTeX (booktabs)
    palette     the colours of both themes
    figures/    PDF, SVG and PNG, and the SVG that the page embeds
    page        what the page shows, as data; ``html`` renders it
    rendering   all of the above into ``<results>/report/``
"""

from remora.lab.report.rendering import Rendered, render

__all__ = ["Rendered", "render"]
