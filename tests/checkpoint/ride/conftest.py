"""Real scripts in real processes: run plainly, ridden, killed."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parent / "scripts"


@dataclass(frozen=True)
class Ended:
    """How a process came to its end."""

    code: int
    output: str
    errors: str


@dataclass(frozen=True)
class Ride:
    """One script in one folder."""

    folder: Path
    script: Path

    def plainly(self) -> Ended:
        """Python alone, in a folder beside."""
        beside = self.folder / "plainly"
        beside.mkdir(exist_ok=True)
        return self._wait(self._start([], beside))

    def ridden(self, *options: str, every: str = "3") -> Ended:
        """To its end, or its resumption's."""
        return self._wait(self._start(self._command(every, options), self.folder))

    def killed(
        self, lines: int, *options: str, every: str = "3", number: int = signal.SIGKILL
    ) -> Ended:
        """Ended by a signal at a random moment after it printed ``lines``."""
        process = self._start(self._command(every, options), self.folder)
        stdout = process.stdout
        assert stdout is not None
        seen = [stdout.readline() for _ in range(lines)]
        time.sleep(random.random() * 0.05)
        process.send_signal(number)
        ended = self._wait(process)
        return Ended(ended.code, "".join(seen) + ended.output, ended.errors)

    def _command(self, every: str, options: tuple[str, ...]) -> list[str]:
        return ["-m", "remora", "run", "--checkpoint", "saved", "--every", every, *options]

    def _start(self, command: list[str], folder: Path) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, *command, str(self.script)],
            cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip

    def _wait(self, process: subprocess.Popen[str]) -> Ended:
        output, errors = process.communicate(timeout=200)
        return Ended(process.returncode, output, errors)


@pytest.fixture
def ride(request: pytest.FixtureRequest, tmp_path: Path) -> Ride:
    """The script named by the test's ``script`` mark or parameter."""
    name: str = getattr(request, "param", "plain")
    return Ride(tmp_path, SCRIPTS / f"{name}.py")
