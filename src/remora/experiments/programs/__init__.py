"""Ordinary training programs in the shapes of the published list, on synthetic data.

Each is a plain script that a beginner might write, in a few seconds on one core. None knows of
Remora. ``--seed``, ``--batch-size`` and ``--steps`` make variants of it that are as healthy.
:mod:`remora.experiments.false_alarms` learns from some and checks the others.
"""
