"""What the isolation experiment answers: whether the one that serves notices, in sentences."""

from __future__ import annotations

from collections.abc import Sequence

from remora.experiments.isolation_results import Row, Value
from remora.experiments.isolation_tables import absence
from remora.lab.report import numbers
from remora.lab.report.tables import Answer, Answers

_VERDICTS = {"unstable": "costs", "void: alone is unstable": "void", "INVALID": "undecided"}
"""Words of this experiment, as a comparison has them."""


def answers(rows: Sequence[Row]) -> Answers:
    """A sentence for every pair under every policy, by the workload that serves."""
    found: dict[str, list[Answer]] = {}
    for row in rows:
        mine = found.setdefault(row.serves, [])
        if not row.is_alone:
            word = str(row.verdict)
            mine.append(Answer(row.arm.label, _sentence(row), _VERDICTS.get(word, word)))
    return found


def _sentence(row: Row) -> str:
    if not row.trials:
        return f"was not measured: {absence(row)}"
    if row.alone_is_unstable:
        return "cannot be told: serving alone could not keep up with what came"
    grows = "cannot keep up: its queue grows; " if row.is_unstable else ""
    return f"{grows}{_response(row.response_ratio[-1])}{_training(row.training_of_left)}"


def _response(value: Value) -> str:
    if value.mean is None:
        return f"has a response p99 that cannot be told: {value.reason}"
    return f"has a response p99 of {_with_interval(value, 'times that alone')}"


def _training(value: Value) -> str:
    if value.mean is None:
        return ""
    return f"; training gets {_with_interval(value, 'of what is left')}"


def _with_interval(value: Value, of: str) -> str:
    if value.mean is None or value.interval is None:
        return f"{numbers.significant(value.mean)} {of}"
    places = numbers.ratio_places(value.mean)
    mean, low, high = (
        numbers.fixed(each, places)
        for each in (value.mean, value.interval.low, value.interval.high)
    )
    return f"{mean} {of} ({numbers.share(value.interval.level)} interval {low} to {high})"
