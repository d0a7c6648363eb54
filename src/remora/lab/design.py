"""What an experiment asks for, before it meets a machine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from remora.lab.results import Curve, Option, WarmUp

Chosen = tuple[str, Mapping[str, Option]]
"""A system by name, with the options it is to run at."""


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
    once, with other options.
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


@dataclass(frozen=True)
class Request:
    """What the user asked for beside the design; None leaves the design's own value."""

    scale: str | None = None
    device: str = "cpu"
    workloads: tuple[str, ...] = ()
    systems: tuple[str, ...] = ()
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
