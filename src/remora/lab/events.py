"""What a running experiment says of itself; the command line turns it into a screen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from remora.lab.results import Pilot, Plan, Trial, TrialSpec


@dataclass(frozen=True)
class Planned:
    """The plan, as first made or as revised; ``done`` trials are on disk already."""

    plan: Plan
    done: int
    reason: str = ""


@dataclass(frozen=True)
class TrialStarted:
    spec: TrialSpec


@dataclass(frozen=True)
class TrialEnded:
    trial: Trial
    seconds: float


@dataclass(frozen=True)
class PilotRead:
    """What the first blocks say about noise, once there are enough of them."""

    pilot: Pilot


@dataclass(frozen=True)
class GivenUp:
    """An arm that fails every time is not tried again in this run."""

    arm: str
    failures: int


@dataclass(frozen=True)
class Stopped:
    """The run ended; ``reason`` is empty when every trial was run."""

    reason: str


Event = Planned | TrialStarted | TrialEnded | PilotRead | GivenUp | Stopped
Listener = Callable[[Event], None]


def ignore(event: Event) -> None:
    """A listener that does not listen."""
