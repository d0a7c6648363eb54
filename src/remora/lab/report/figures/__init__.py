"""The figures: one drawing of each gives PDF, SVG and PNG, and the SVG that the page embeds.

catalogue  every figure: its title, its caption, its forms
curves     a quantity against an option: the figures that an experiment asks for itself
overhead, distributions, stalls    charts laid out by rows, one row an arm
warmup     one small panel an arm
scale      which part of an axis to show, linear or logarithmic, and its ticks
legend     marks and their words
samples    raw samples, picked out and thinned for drawing
canvas     a sheet measured in CSS pixels, and what it is saved as
inline     a drawing as the page takes it
"""

from remora.lab.report.figures.catalogue import FIGURES, Drawn, Figure, drawn_figures

__all__ = ["FIGURES", "Drawn", "Figure", "drawn_figures"]
