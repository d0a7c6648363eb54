"""The observe service: at the end, say what the program did and what it held."""

from __future__ import annotations

import contextlib
import os
import statistics
import sys
import threading
import time
from array import array
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TextIO

import msgspec

from remora.core.errors import BadValue
from remora.core.files import write_atomically
from remora.core.units import format_seconds
from remora.tap.job import Job
from remora.tap.service import Service
from remora.tap.state import FoundState
from remora.tap.steps import Step

OBSERVATION_VERSION = 1


class Calls(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Calls of one watched function, over all threads."""

    count: int
    failed: int
    total_ms: float
    """Time inside it; a recursive call's time counts in its caller's too."""
    found: bool = True
    """Whether the name came to stand for a function while the program ran."""


class Model(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    name: str
    kind: str
    parameters: int
    trained_by: list[str]
    wrappers: list[str]


class Part(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An optimizer or a scheduler, and what it acts on."""

    name: str
    kind: str
    acts_on: list[str]


class Observation(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What ``--observe-json`` writes."""

    version: int = OBSERVATION_VERSION
    steps: int
    step_of: str
    """What a step was: ``optimizer``, or ``forward`` for a program that trains nothing."""
    step_ms_mean: float | None
    """From the end of one step to the end of the next; None below two steps."""
    step_ms_median: float | None
    models: list[Model]
    optimizers: list[Part]
    schedulers: list[Part]
    calls: dict[str, Calls]
    """By watched name, those never called included."""


class Observe(Service):
    """Counts and times steps and watched calls, and finds the program's state.

    State is looked for once, at the first step, when it is sure to be there, and again at the
    end for a program that took no step. Only descriptions are kept, never the objects.

    Args:
        watch: names of functions to count and time.
        json_file: where to write the :class:`Observation`; None writes none.
        stream: where the summary goes; ``sys.stderr`` as it is at the end.
        clock_ns: monotonic nanoseconds.
    """

    name = "observe"

    def __init__(
        self,
        watch: Sequence[str] = (),
        json_file: Path | None = None,
        *,
        stream: TextIO | None = None,
        clock_ns: Callable[[], int] = time.perf_counter_ns,
    ) -> None:
        if json_file is not None and not json_file.parent.is_dir():
            raise BadValue(f"no folder {str(json_file.parent)!r} to write {json_file.name!r} into")
        self._watch, self._stream = watch, stream
        self._json_file = (
            None if json_file is None else json_file.absolute()
        )  # it may change folder
        self._clock_ns = clock_ns
        self._job: Job | None = None

    def attach(self, job: Job) -> None:
        self._job = job
        self._optimizer_steps = _Boundaries(self._clock_ns)
        self._forwards = _Boundaries(self._clock_ns)
        self._tallies: dict[str, _Tally] = {}
        self._held: tuple[list[Model], list[Part], list[Part]] | None = None
        for name in dict.fromkeys(self._watch):
            tally = self._tallies[name] = _Tally(self._clock_ns)
            job.calls.watch(name, before=tally.before, after=tally.after, failed=tally.failed)
        job.steps.subscribe(self._on_step)
        self._forward = job.steps.subscribe_forward(self._on_forward)

    def detach(self) -> None:
        self._job = None  # the job removes the subscriptions

    def finish(self) -> None:
        observation = self.observation()
        if self._json_file is not None:
            data = msgspec.json.format(msgspec.json.encode(observation), indent=2)
            write_atomically(self._json_file, data + b"\n")
        stream = self._stream or sys.stderr
        text = summary(observation, rank=os.environ.get("RANK"))
        with contextlib.suppress(OSError, ValueError):  # closed, or nobody reads it any more
            stream.write(text + "\n")  # in one piece: ranks may share the stream
            stream.flush()

    def observation(self) -> Observation:
        """What has been observed so far."""
        stepped = self._optimizer_steps.count > 0
        boundaries = self._optimizer_steps if stepped else self._forwards
        if self._held is None:
            self._look()
        models, optimizers, schedulers = self._held or ([], [], [])
        return Observation(
            steps=boundaries.count,
            step_of="optimizer" if stepped or not boundaries.count else "forward",
            step_ms_mean=boundaries.mean_ms(),
            step_ms_median=boundaries.median_ms(),
            models=models,
            optimizers=optimizers,
            schedulers=schedulers,
            calls={name: tally.calls(self._found(name)) for name, tally in self._tallies.items()},
        )

    def _on_step(self, step: Step) -> None:
        if step.advances:
            if step.total == 1:
                self._forward.remove()  # it trains: forwards are no steps of it
                self._look()
            self._optimizer_steps.mark()

    def _on_forward(self, _: object) -> None:
        if self._forwards.count == 0:
            self._look()
        self._forwards.mark()

    def _found(self, name: str) -> bool:
        return self._job is None or self._job.calls.found(name)

    def _look(self) -> None:
        if self._job is not None:
            self._held = _describe(self._job.state.find())


class _Boundaries:
    """Times between the ends of steps, 8 bytes a step."""

    def __init__(self, clock_ns: Callable[[], int]) -> None:
        self.count = 0
        self._clock_ns = clock_ns
        self._last_ns = 0
        self._between_ns = array("q")

    def mark(self) -> None:
        now = self._clock_ns()
        if self.count:
            self._between_ns.append(now - self._last_ns)
        self._last_ns = now
        self.count += 1

    def mean_ms(self) -> float | None:
        return statistics.fmean(self._between_ns) / 1e6 if self._between_ns else None

    def median_ms(self) -> float | None:
        return statistics.median(self._between_ns) / 1e6 if self._between_ns else None


class _Tally:
    """Counts of one watched function."""

    def __init__(self, clock_ns: Callable[[], int]) -> None:
        self._clock_ns = clock_ns
        self._lock = threading.Lock()
        self._count = self._failed = self._total_ns = 0

    def before(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> int:
        return self._clock_ns()

    def after(self, began_ns: int, result: Any) -> None:
        took = self._clock_ns() - began_ns
        with self._lock:
            self._count += 1
            self._total_ns += took

    def failed(self, began_ns: int, error: BaseException) -> None:
        self.after(began_ns, None)
        with self._lock:
            self._failed += 1

    def calls(self, found: bool) -> Calls:
        total_ms = self._total_ns / 1e6
        return Calls(count=self._count, failed=self._failed, total_ms=total_ms, found=found)


def _describe(found: FoundState) -> tuple[list[Model], list[Part], list[Part]]:
    models = [
        Model(
            name=model.name,
            kind=type(model.module).__name__,
            parameters=model.parameters,
            trained_by=list(model.trained_by),
            wrappers=[type(wrapper).__name__ for wrapper in model.wrappers],
        )
        for model in found.models
    ]
    optimizers = [
        Part(name=one.name, kind=type(one.optimizer).__name__, acts_on=list(one.trains))
        for one in found.optimizers
    ]
    schedulers = [
        Part(name=s.name, kind=type(s.scheduler).__name__, acts_on=[s.drives] if s.drives else [])
        for s in found.schedulers
    ]
    return models, optimizers, schedulers


# ---------------------------------------------------------------- the summary


def summary(observation: Observation, rank: str | None = None) -> str:
    """The observation as people read it, at most 100 columns where names allow.

    ``rank`` is the process's among those of one launcher; None where there is no launcher.
    """
    rows = [("steps", _steps_line(observation))]
    rows += [("model", _model_line(model)) for model in observation.models]
    rows += [("optimizer", _part_line(part, "trains")) for part in observation.optimizers]
    rows += [("scheduler", _part_line(part, "drives")) for part in observation.schedulers]
    rows += [("calls", _calls_line(name, calls)) for name, calls in observation.calls.items()]
    lines = ["remora: observed" if rank is None else f"remora: observed (rank {rank})"]
    last = ""
    for label, text in rows:
        lines.append(f"  {label if label != last else '':<10} {text}")
        last = label
    return "\n".join(lines)


def _steps_line(observation: Observation) -> str:
    if not observation.steps:
        return "none seen"
    line = f"{observation.steps:,} of the {observation.step_of}"
    if observation.step_ms_mean is None or observation.step_ms_median is None:
        return line
    mean, median = observation.step_ms_mean / 1e3, observation.step_ms_median / 1e3
    return f"{line}, mean {format_seconds(mean)}, median {format_seconds(median)}"


def _model_line(model: Model) -> str:
    trained = f"trained by {', '.join(model.trained_by)}" if model.trained_by else "not trained"
    within = f" in {', '.join(model.wrappers)}" if model.wrappers else ""
    count = f"{model.parameters:,} parameters"
    return f"{model.name}: {model.kind}{within}, {count}, {trained}"


def _part_line(part: Part, verb: str) -> str:
    target = f", {verb} {', '.join(part.acts_on)}" if part.acts_on else ""
    return f"{part.name}: {part.kind}{target}"


def _calls_line(name: str, calls: Calls) -> str:
    if not calls.found:
        return f"{name}: never found"
    if not calls.count:
        return f"{name}: never called"
    failed = f", {calls.failed:,} raised" if calls.failed else ""
    return f"{name}: {calls.count:,}, {format_seconds(calls.total_ms / 1e3)} in all{failed}"
