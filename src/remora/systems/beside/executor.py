"""The contract of an executor: who makes the two jobs of a trial share, from the side of each.

Every result of ours names its executor. What the operating system does on a CPU says nothing of a
device that cannot preempt, nor the other way round. ``tests/conformance/test_sharing.py`` holds
each to this.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch

from remora.systems.beside.order import Order
from remora.systems.contract import Another
from remora.workloads.contract import Outcome, Session

Step = Callable[[], Outcome]


@dataclass(frozen=True)
class Setting:
    """What a trial wants of its executor."""

    policy: str
    device: torch.device
    """Of the session that serves."""
    cores: Sequence[int]
    """That both jobs are to share."""
    folder: Path
    """Where they may find each other; need not be there."""
    is_beside: bool
    """Whether there is a job that trains."""
    kept: Path | None = None
    """What :meth:`Executor.keep` has left, if it was asked to."""


class Stage(ABC):
    """One trial, from the side of the job that serves: this process. Closed when that is over."""

    meeting: str
    """What the other job is told to come here."""
    serving_cores: Sequence[int]
    """Where this process is to run."""
    training_cores: Sequence[int]
    """Where the process of the other job is to run."""

    @abstractmethod
    def serve(self, session: Session) -> Step:
        """``session`` is served from now on, as the high-priority job: a step of it."""

    @abstractmethod
    def busy_ns(self) -> int | None:
        """How long the shared cores have worked for the job that serves; None where something else
        is shared."""

    @abstractmethod
    def worked(self, pid: int) -> Callable[[], int]:
        """A reader of how long they have worked for the job that trains, in process ``pid``; in ns
        of the clock that the job itself reads by :meth:`Training.worked_ns`."""

    @abstractmethod
    def close(self) -> None:
        """The job serves no more; what was started here ends. May be called again."""


class Training(ABC):
    """One trial, from the side of the job that trains: this process, until it ends."""

    device: torch.device
    """Where to build the session."""

    @abstractmethod
    def warm_up(self, step: Step) -> None:
        """Make steps until those that follow are as all others."""

    @abstractmethod
    def worked_ns(self) -> int:
        """How long the shared cores have worked for this job."""

    @abstractmethod
    def done(self) -> None:
        """Return when the step that was made is done.

        Raises:
            Unavailable: the policy no longer acts.
        """


class Executor(ABC):
    """One way of making jobs share."""

    name: ClassVar[str]
    title: ClassVar[str]
    """What it is, in a few words, for tables."""
    devices: ClassVar[tuple[str, ...]]
    """The types of device that it shares out."""
    alone: ClassVar[str]
    """The policy under which a job serves that has nothing beside it."""

    @abstractmethod
    def policies(self) -> Sequence[str]:
        """The names of those it knows."""

    @abstractmethod
    def check(self, policy: str) -> None:
        """Raises:
        UnknownName: it knows no such policy.
        BadValue: the policy has no such option.
        """

    def must_learn(self, policy: str) -> bool:
        """Whether ``policy`` finds out things of a job that trains, which it then keeps."""
        return False

    def keep(self, another: Another, kept: Path) -> None:  # noqa: B027  most need nothing
        """Make in ``kept`` what serving needs, once for all trials of a workload."""

    @abstractmethod
    def stage(self, setting: Setting) -> Stage:
        """Everything that a trial needs.

        Raises:
            Unavailable: it cannot be had here.
        """

    @abstractmethod
    def train(self, order: Order) -> Training:
        """Let this process be the best-effort job, until it ends.

        Raises:
            Unavailable: the policy is not permitted here. Another would be another row.
        """
