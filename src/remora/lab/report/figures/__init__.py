"""The figures: one drawing of each gives PDF, SVG and PNG, and the SVG that the page embeds.

canvas     a sheet measured in CSS pixels, and what it is saved as
scale      which part of an axis to show, linear or logarithmic, and its ticks
rows       charts with one row an arm: overhead, distributions, stalls
samples    raw samples, picked out and thinned for drawing
inline     a drawing as the page takes it
"""

from remora.lab.report.figures.catalogue import FIGURES, Figure, figures_for

__all__ = ["FIGURES", "Figure", "figures_for"]
