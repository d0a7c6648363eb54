"""What every test needs of the process that runs it."""

from __future__ import annotations

import os
import signal

import pytest

# One thread in every process: two workers share two cores, and sums come out the same everywhere.
os.environ.setdefault("OMP_NUM_THREADS", "1")

SLOW_CASES = (
    "[dcp-async-process]",
    "[dcp-async-process-",
    "-dcp-async-process]",
    "[torch-checkpointing]",
)
"""Cases of systems that start a process, or a pool of threads, for every ride."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Of every test of all systems, those cases wait for ``make test-all``."""
    for item in items:
        if any(case in item.name for case in SLOW_CASES):
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session", autouse=True)
def _interrupts_arrive() -> None:
    """A shell's background job ignores SIGINT, and so would every process a test starts."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
