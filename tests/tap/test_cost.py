"""Watching is cheap: bounds three times the targets, so that a busy machine does not fail them."""

from __future__ import annotations

import importlib
import random
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim.optimizer import _global_optimizer_post_hooks, _global_optimizer_pre_hooks

from remora.tap.job import Job


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2]))
    return importlib.import_module("benchmarks.tap")


def rows(bench: Any, subject: Any, *wanted: str) -> dict[str, Any]:
    subject.variants[:] = [
        variant for variant in subject.variants if variant.what.partition(": ")[2] in wanted
    ]
    measured = bench._rows(subject, 15, random.Random(0))
    return {row.what.partition(": ")[2]: row for row in measured}


def test_a_watched_call_is_cheap(bench: Any) -> None:
    both = "watched, before and after"
    row = rows(bench, bench._python_calls(), both)[both]

    assert row.added_us > 0
    assert row.added_us < 3 * bench.CALL_TARGET_US


def test_a_watched_step_is_cheap(bench: Any, job: Job) -> None:
    """The hooks alone, as torch calls them: a step takes far longer, and varies by more."""
    weight = nn.Parameter(torch.ones(1))
    sgd = torch.optim.SGD([weight], lr=0.1)
    job.steps.subscribe(lambda step: None, lambda step: None)
    (before,) = _global_optimizer_pre_hooks.values()
    (after,) = _global_optimizer_post_hooks.values()

    def hooks_us(count: int = 2000) -> float:
        began = time.thread_time_ns()
        for _ in range(count):
            before(sgd, (sgd,), {})
            after(sgd, (sgd,), {})
        return (time.thread_time_ns() - began) / count / 1e3

    assert 0 < min(hooks_us() for _ in range(7)) < 3 * bench.STEP_TARGET_US
    assert job.steps.count == 7 * 2000


def test_an_idle_job_costs_nothing(bench: Any) -> None:
    for subject in (bench._python_calls(), bench._optimizer_steps()):
        row = rows(bench, subject, "idle job")["idle job"]
        assert row.added_us < 0.25 * row.bare_us


def test_the_interval_of_a_median_covers_it(bench: Any) -> None:
    """95 % of intervals hold the true median, 0, of simulated rounds."""
    chance = random.Random(1)
    held = 0
    for _ in range(2000):
        low, high = bench.median_interval(sorted(chance.gauss(0, 1) for _ in range(41)))
        held += low <= 0 <= high

    assert 0.94 < held / 2000 <= 0.99


def test_the_table_has_a_line_a_row_and_says_what_is_not_available(bench: Any) -> None:
    nan = float("nan")
    there = bench.Row("watched", 0.1, 0.5, 0.4, 0.3, 0.6, "note")
    absent = bench.Row("monitoring", 0.1, nan, nan, nan, nan, "needs Python 3.12")

    assert [bench.cells(row) for row in (there, absent)] == [
        ["watched", "note", "0.10", "0.50", "+0.40", "+0.30 … +0.60"],
        ["monitoring", "needs Python 3.12", "0.10", "–", "–", "–"],
    ]
