"""Who makes two jobs share: each executor, with the policies it knows.

Every result of ours names its executor. What the operating system does on a CPU says nothing of a
device that cannot preempt, nor the other way round.
"""

from __future__ import annotations

import io
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import ClassVar

from remora.core.errors import Unavailable, UnknownName
from remora.share.policies.contract import Priority
from remora.share.system.mechanisms.registry import MECHANISMS, parse_choice
from remora.share.system.service import Share
from remora.tap.job import Job

PLAIN = "plain"
"""No policy: two jobs that know nothing of each other."""

Leave = Callable[[], object]
Check = Callable[[], None]


class Executor(ABC):
    """One way of making jobs share. ``folder`` is where both jobs of a trial find each other."""

    name: ClassVar[str]
    devices: ClassVar[tuple[str, ...]]
    """The types of device that it shares out."""

    @abstractmethod
    def check(self, policy: str) -> None:
        """Raises:
        UnknownName: it knows no such policy.
        """

    @abstractmethod
    def serve(self, policy: str, folder: Path) -> Leave:
        """Let this process be the high-priority job; returns how to end that."""

    @abstractmethod
    def train(self, policy: str, folder: Path) -> Check:
        """Let this process be the best-effort job, until it ends.

        Returns what is to be called after each step: it raises where the policy no longer acts.

        Raises:
            Unavailable: the policy is not permitted here. Another would be another row.
        """


class OperatingSystem(Executor):
    """The kernel's scheduler, told who gives way: the policies are the share service's ways."""

    name = "operating-system"
    devices = ("cpu",)

    def check(self, policy: str) -> None:
        if policy.partition(":")[0] not in self.policies():
            raise UnknownName(f"policy of executor {self.name}", policy, self.policies())
        if policy != PLAIN:
            parse_choice(policy)

    @staticmethod
    def policies() -> tuple[str, ...]:
        return (PLAIN, *(name for name in MECHANISMS if name != "none"))

    def serve(self, policy: str, folder: Path) -> Leave:
        if policy == PLAIN:
            return lambda: None
        job = Job(strict=True)
        job.attach(Share(Priority.HIGH, folder=folder))
        return job.detach_all

    def train(self, policy: str, folder: Path) -> Check:
        if policy == PLAIN:
            return lambda: None
        choice = parse_choice(policy)
        said = io.StringIO()
        service = Share(Priority.BEST_EFFORT, choice, folder=folder, stderr=said)
        Job(strict=True).attach(service)

        def check() -> None:
            if service.mechanism != choice.name:
                raise Unavailable(
                    f"policy {policy} does not act, and {service.mechanism} instead would be "
                    f"another row; {' '.join(said.getvalue().split())}"
                )

        check()
        return check


EXECUTORS: Mapping[str, Executor] = {each.name: each for each in (OperatingSystem(),)}
DEFAULT = OperatingSystem.name


def executor(name: str) -> Executor:
    """The executor called ``name``; :class:`UnknownName` lists the valid ones."""
    if name not in EXECUTORS:
        raise UnknownName("executor of sharing", name, EXECUTORS)
    return EXECUTORS[name]
