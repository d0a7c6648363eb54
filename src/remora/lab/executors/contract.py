"""The contract of an executor: it runs one worker job and says how the process ended."""

from __future__ import annotations

import os
import signal
from abc import ABC, abstractmethod
from contextlib import suppress
from dataclasses import dataclass
from typing import ClassVar

from remora.lab.worker import Job


@dataclass(frozen=True)
class Ended:
    """How a trial's process ended. ``exit_code`` is negative for a signal, as in subprocess."""

    exit_code: int
    timed_out: bool = False


class Executor(ABC):
    """Runs jobs one at a time. Conformance: ``tests/conformance/test_executor.py``."""

    name: ClassVar[str]

    @abstractmethod
    def run(self, job: Job, timeout_s: float) -> Ended:
        """Run ``job`` to its end, or kill it after ``timeout_s``.

        On KeyboardInterrupt the process is killed and the interrupt goes on.
        """

    def close(self) -> None:  # noqa: B027  most hold nothing
        """Let go of what is kept between trials."""


def kill_session(leader: int | None) -> None:
    """Kill a trial's process and all it started; each trial leads a session of its own."""
    if leader is not None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(leader, signal.SIGKILL)


def thread_environment(threads: int) -> dict[str, str]:
    """Environment of a measured process: fixed thread counts, no busy-waiting, no downloads."""
    return {
        "OMP_NUM_THREADS": str(threads),
        "MKL_NUM_THREADS": str(threads),
        "OMP_WAIT_POLICY": "PASSIVE",
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_OFFLINE": "1",
        "PYTHONHASHSEED": "0",
    }
