"""The experiments by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from remora.core.errors import UnknownName
from remora.experiments import (
    check_overhead,
    checkpoint_concurrency,
    checkpoint_goodput,
    checkpoint_sensitivity,
    checkpoint_throughput,
    disaggregation,
    framework_overhead,
    isolation,
    quick,
)
from remora.lab.design import Design

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from remora.lab.folder import Folder
    from remora.lab.report.figures import Figure
    from remora.lab.report.tables import Answers, TextTable
    from remora.lab.results import Analysis, Trial

_ALL = (
    quick.DESIGN,
    checkpoint_throughput.DESIGN,
    checkpoint_goodput.DESIGN,
    checkpoint_sensitivity.DESIGN,
    checkpoint_concurrency.DESIGN,
    check_overhead.DESIGN,
    disaggregation.DESIGN,
    framework_overhead.DESIGN,
    isolation.DESIGN,
)
_DESIGNS = {design.name: design for design in _ALL}


def names() -> list[str]:
    """Every experiment's name."""
    return list(_DESIGNS)


def get(name: str) -> Design:
    """The experiment called ``name``; :class:`UnknownName` lists the valid ones."""
    if name not in _DESIGNS:
        raise UnknownName("experiment", name, _DESIGNS)
    return _DESIGNS[name]


def figures(name: str) -> tuple[Figure, ...]:
    """What the report of the experiment ``name`` shows beside what every report does."""
    if name == checkpoint_goodput.DESIGN.name:
        from remora.experiments import goodput_report

        return (goodput_report.figure(),)
    if name == check_overhead.DESIGN.name:
        from remora.experiments import check_overhead_report

        return (check_overhead_report.figure(),)
    if name == disaggregation.DESIGN.name:
        from remora.experiments import disaggregation_report

        return disaggregation_report.figures()
    if name == framework_overhead.DESIGN.name:
        from remora.experiments import framework_report

        return (framework_report.figure(),)
    if name == isolation.DESIGN.name:
        from remora.experiments import isolation_report

        return isolation_report.figures()
    return ()


def headline(
    name: str, analysis: Analysis, trials: Sequence[Trial]
) -> tuple[TextTable, ...] | None:
    """What ``name`` came to, for a screen; None where that is a time over another."""
    if name != isolation.DESIGN.name:
        return None
    from remora.experiments import isolation_tables
    from remora.experiments.isolation_results import rows

    return isolation_tables.headlines(rows(analysis, trials))


def answers(name: str, analysis: Analysis, trials: Sequence[Trial]) -> Answers | None:
    """What ``name`` answers to its question; None where that is what arms cost."""
    if name != isolation.DESIGN.name:
        return None
    from remora.experiments import isolation_answers
    from remora.experiments.isolation_results import rows

    return isolation_answers.answers(rows(analysis, trials))


def broken_promises(name: str, analysis: Analysis) -> list[str]:
    """What a run of the experiment ``name`` must hold to and does not, in sentences."""
    if name in (disaggregation.DESIGN.name, framework_overhead.DESIGN.name):
        from remora.experiments import honesty

        return honesty.broken(analysis)
    return []


def write_own_table(name: str, folder: Folder, *, latest_only: bool) -> Path | None:
    """The table over runs that the experiment ``name`` keeps beside its report; None for none."""
    if name != framework_overhead.DESIGN.name:
        return None
    from remora.experiments import framework_view

    return framework_view.write_table(folder, latest_only=latest_only)
