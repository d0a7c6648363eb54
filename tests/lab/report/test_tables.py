"""What tables say in few words, and how wide they are set."""

from __future__ import annotations

from pathlib import Path

from tests.lab.builders import make_plan, make_trial

from remora.lab.analysis import analyse
from remora.lab.environment import capture
from remora.lab.report.latex import table_latex
from remora.lab.report.markdown import summary_markdown
from remora.lab.report.tables import Column, TextTable
from remora.lab.results import EnvironmentPair


def test_arms_that_never_settled_are_named_together() -> None:
    plan = make_plan(systems=("idle", "torch-save"), blocks=2)
    trials = [make_trial(spec, steps=2) for spec in plan.trials]
    analysis = analyse(plan, EnvironmentPair(before=capture(1)), trials)
    lines = summary_markdown(analysis, Path("results")).splitlines()
    (line,) = (line for line in lines if "no steady state" in line)
    labels = "native, native (again), idle, torch-save"
    assert line == f"- vgg16-train: no steady state in 2 of 2 trials of {labels}"


def test_a_fitted_table_is_set_no_wider_than_the_text() -> None:
    table = TextTable("key", "A table", (Column("Arm", False), Column("Step, ms")), (("x", "1"),))
    plain, fitted = table_latex(table, "t"), table_latex(table, "t", fitted=True)
    assert "resizebox" not in plain
    assert fitted.count("{") == fitted.count("}")
    assert r"\resizebox{\ifdim\width>\linewidth" in fitted
