"""What an experiment asks for, before it meets a machine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from remora.lab.results import Curve, Option, WarmUp
from remora.workloads.contract import SCALES, Mode, Scale, Workload


class Chosen(NamedTuple):
    """A system that an experiment compares, with the options it is to run at."""

    system: str
    options: Mapping[str, Option] = {}
    name: str = ""
    """What its arms are called; without it the system, and the options that tell it from others."""
    modes: tuple[Mode, ...] = ()
    """The workloads that it is run on, by what they do; all, where none is named."""
    most_steps: int | None = None
    """Most steps of a trial, where one takes so long that the others' number would not end."""
    workloads: tuple[str, ...] = ()
    """The workloads that it is run on; all, where none is named."""

    def rides(self, workload: Workload) -> bool:
        """Whether it is to be run on ``workload``."""
        fits_mode = not self.modes or workload.mode in self.modes
        return fits_mode and (not self.workloads or workload.name in self.workloads)


@dataclass(frozen=True)
class Effort:
    """How long to measure. Every trial steps for ``seconds``, within the numbers of steps."""

    seconds: float = 2.0
    min_steps: int = 8
    max_steps: int = 2000
    min_periods: int = 1
    """Fewest repetitions of the system's own pattern (checkpoints)."""
    blocks: int = 12
    """Most blocks, unless a wanted effect asks for more."""
    budget_s: float | None = None
    timeout_s: float = 600.0
    executor: str = "spawn"


@dataclass(frozen=True)
class Design:
    """One experiment: workloads × systems, and the question they answer.

    ``workloads``, ``systems``, ``sweep`` and ``efforts`` are by scale. A system may come more than
    once, with other options, and best with a name.
    """

    name: str
    title: str
    question: str
    workloads: Mapping[str, tuple[str, ...]]
    systems: Mapping[str, tuple[Chosen, ...]]
    efforts: Mapping[str, Effort]
    margin: float = 0.05
    """Overheads within ±margin count as no cost."""
    tolerance: float = 1e-4
    """Largest relative difference of outcomes that still counts as equal work."""
    default_scale: str = "quick"
    sweep: Mapping[str, Mapping[str, tuple[Option, ...]]] = field(default_factory=dict)
    """Options of which every system that has them is run at each value, in all combinations."""
    warm_up: WarmUp = "found"
    curves: tuple[Curve, ...] = ()
    aliases: Mapping[str, str] = field(default_factory=dict)
    """Other names for its workloads and rows, as they are published."""
    built_at: Mapping[str, Mapping[str, Scale]] = field(default_factory=dict)
    """By scale: workloads that are built at another one's sizes."""
    rows_by: Mapping[str, str] = field(default_factory=dict)
    """Options that its rows are called by, each with what chooses among them: not to be set."""
    skips_too_large: bool = False
    """Whether a workload that does not fit in memory is left out, and the rest run. Its rows say
    so, with the arithmetic."""

    def named_rows(self) -> dict[str, Chosen]:
        """The rows that have a name, of all scales."""
        return {row.name: row for rows in self.systems.values() for row in rows if row.name}

    def workload_scale(self, scale: str, workload: str) -> Scale:
        """Whose sizes ``workload`` has when the experiment runs at ``scale``, which may be a scale
        of the experiment only: its workloads then are small, where nothing else is said.
        """
        small: Scale = "quick"
        own = next((each for each in SCALES if each == scale), small)
        return self.built_at.get(scale, {}).get(workload, own)


@dataclass(frozen=True)
class Request:
    """What the user asked for beside the design; None leaves the design's own value."""

    scale: str | None = None
    device: str = "cpu"
    workloads: tuple[str, ...] = ()
    systems: tuple[str, ...] = ()
    """Systems, or names that the design gives to some of its rows."""
    blocks: int | None = None
    seconds: float | None = None
    budget_s: float | None = None
    timeout_s: float | None = None
    mde: float | None = None
    inject: tuple[float, ...] = ()
    every: int | None = None
    options: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Options of systems as text, each with the values to run it at instead of the design's."""
    threads: int = 1
    seed: int = 0
    margin: float | None = None
    executor: str | None = None
    data: str | None = None
    tag: str = ""
    """A word of the user's own that is kept with the results."""
