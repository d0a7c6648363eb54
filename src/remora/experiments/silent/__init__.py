"""Silent issues re-enacted: training programs with a known fault, and without it.

Each program is one published issue at the size of a few seconds on a CPU: the real cause, a tiny
model. ``python FILE --seed 1`` is the healthy twin and ``--broken`` the one with the fault, which
from the outside looks as healthy. :mod:`remora.experiments.silent_issues` learns on the one and
checks the other.
"""
