"""Runs told as nested calls, fed to a sink: what a relation sees, without a program."""

from __future__ import annotations

import itertools
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from remora.check.calls import Call
from remora.check.checker import Checker, Finding
from remora.check.invariants import Invariant
from remora.check.learner import InvariantLearner
from remora.check.sink import Sink

TRAIN: Mapping[str, Any] = {"phase": "train", "grad": True, "autocast": None, "rank": 0}
EVAL: Mapping[str, Any] = {"phase": "eval", "grad": False, "autocast": None, "rank": 0}


@dataclass
class Told:
    """One call: its name, what it was given and returned, and the calls within it."""

    name: str
    within: Sequence[Told | str] = ()
    inputs: Mapping[str, Any] = field(default_factory=dict)
    outputs: Mapping[str, Any] = field(default_factory=dict)
    context: Mapping[str, Any] = field(default_factory=lambda: TRAIN)
    failed: bool = False
    thread: int = 1
    numbers: Mapping[str, float] = field(default_factory=dict)
    """What was measured at it."""
    contents: Mapping[str, Hashable] = field(default_factory=dict)
    """What stands for the contents of variables as the step ends that it is made in."""


class Story:
    """Feeds steps of calls to a sink, one after another."""

    def __init__(self, sink: Sink) -> None:
        self._sink, self._order, self._step = sink, itertools.count(), 0

    def step(self, *calls: Told | str) -> None:
        for call in calls:
            self._tell(call, None)
        told = [call for call in calls if isinstance(call, Told)]
        if contents := {name: one for call in told for name, one in call.contents.items()}:
            self._sink.compare(self._step, contents)
        self._sink.step_ended(self._step)
        self._step += 1

    def _tell(self, told: Told | str, parent: Call | None) -> None:
        told = Told(told) if isinstance(told, str) else told
        thread = parent.thread if parent is not None else told.thread
        call = Call(
            told.name, next(self._order), thread, parent, self._step, told.inputs, told.context
        )
        self._sink.begin(call)
        for inner in told.within:
            self._tell(inner, call)
        call.outputs, call.failed = told.outputs, told.failed
        self._sink.end(call)
        if told.numbers and not told.failed:
            self._sink.measured(call, told.numbers)


def learned(*runs: Sequence[Sequence[Told | str]], fewest: int = 3) -> list[Invariant]:
    """What is learned from runs, each a list of steps."""
    learner = InvariantLearner(fewest=fewest)
    for run in runs:
        story = Story(learner)
        for step in run:
            story.step(*step)
        learner.run_ended("story")
    return list(learner.invariants().invariants)


def checked(invariants: Sequence[Invariant], run: Sequence[Sequence[Told | str]]) -> list[Finding]:
    """What is found in a run."""
    findings: list[Finding] = []
    story = Story(Checker(invariants, findings.append))
    for step in run:
        story.step(*step)
    return findings


def said(invariants: Sequence[Invariant], relation: str) -> set[str]:
    """The words of the invariants of one relation."""
    return {one.words() for one in invariants if one.relation == relation}
