"""The kernel's scheduler as executor: the policies are the share service's ways of giving way."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from remora.core.clock import SystemClock
from remora.core.errors import Unavailable, UnknownName
from remora.share.policies.contract import Priority
from remora.share.system.mechanisms.registry import MECHANISMS, parse_choice
from remora.share.system.service import Share
from remora.systems.beside.executor import Executor, Setting, Stage, Step, Training
from remora.systems.beside.order import Order
from remora.systems.beside.progress import cpu_clock_of
from remora.tap.job import Job
from remora.workloads.contract import Session

PLAIN = "plain"
"""No policy: two jobs that know nothing of each other."""
WARM_UP_STEPS = 2


class Programs(Executor):
    """Both jobs are programs, which give way to each other by the share service's mechanisms."""

    def stage(self, setting: Setting) -> Stage:
        return _Stage(setting, self._mechanism(setting.policy))

    def train(self, order: Order) -> Training:
        return _Training(order, self._mechanism(order.policy))

    def _mechanism(self, policy: str) -> str:
        """How the one that trains gives way; :data:`PLAIN` where it does not."""
        return policy


class OperatingSystem(Programs):
    """On the same cores."""

    name = "operating-system"
    title = "the kernel's scheduler, told who gives way"
    devices = ("cpu",)
    alone = PLAIN

    def policies(self) -> Sequence[str]:
        return (PLAIN, *(name for name in MECHANISMS if name != "none"))

    def check(self, policy: str) -> None:
        if policy.partition(":")[0] not in self.policies():
            raise UnknownName(f"policy of executor {self.name}", policy, self.policies())
        if policy != PLAIN:
            parse_choice(policy)


class _Stage(Stage):
    def __init__(self, setting: Setting, mechanism: str) -> None:
        self._job = Job(strict=True)
        self._clock = SystemClock()
        self.meeting = str(setting.folder)
        self.serving_cores = self.training_cores = setting.cores
        self._is_cpu = setting.device.type == "cpu"
        if setting.is_beside and mechanism != PLAIN:
            self._job.attach(Share(Priority.HIGH, folder=setting.folder))

    def serve(self, session: Session) -> Step:
        return session.step

    def busy_ns(self) -> int | None:
        return self._clock.cpu_ns() if self._is_cpu else None

    def worked(self, pid: int) -> Callable[[], int]:
        return cpu_clock_of(pid)

    def close(self) -> None:
        self._job.detach_all()


class _Training(Training):
    def __init__(self, order: Order, mechanism: str) -> None:
        self.device = torch.device(order.device)
        self._policy, self._service = order.policy, None
        if mechanism == PLAIN:
            return
        self._choice, self._said = parse_choice(mechanism), io.StringIO()
        self._service = Share(
            Priority.BEST_EFFORT, self._choice, folder=Path(order.meeting), stderr=self._said
        )
        Job(strict=True).attach(self._service)
        self._check_acts()

    def warm_up(self, step: Step) -> None:
        for _ in range(WARM_UP_STEPS):
            step()

    def worked_ns(self) -> int:
        return time.process_time_ns()

    def done(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        self._check_acts()

    def _check_acts(self) -> None:
        service = self._service
        if service is not None and service.mechanism != self._choice.name:
            raise Unavailable(
                f"policy {self._policy} does not act, and {service.mechanism} instead would be "
                f"another row; {' '.join(self._said.getvalue().split())}"
            )
