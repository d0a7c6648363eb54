"""The trial in this very process: for tests and debuggers, never for figures."""

from __future__ import annotations

from typing import ClassVar

from remora.lab.executors.contract import Ended, Executor
from remora.lab.worker import Job
from remora.lab.worker import run as run_job


class InProcessExecutor(Executor):
    """No isolation, no timeout: a breakpoint in a system or workload simply works."""

    name: ClassVar[str] = "in-process"

    def run(self, job: Job, timeout_s: float) -> Ended:
        return Ended(run_job(job))
