"""The example of checkpointing: killed and started again, its losses are those of a whole run."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[2] / "examples" / "vgg16_checkpoint.py"
SHORT = ("--steps", "100", "--every", "10", "--image", "32", "--batch", "8")
"""An epoch of sixty steps and some."""


def command(folder: Path) -> list[str]:
    return [sys.executable, str(EXAMPLE), str(folder), *SHORT]


def environment() -> dict[str, str]:
    return os.environ | {"OMP_NUM_THREADS": "1"}


def losses(lines: list[str]) -> dict[int, str]:
    """By step, as printed; a step that was done twice must have printed the same."""
    found: dict[int, str] = {}
    for line in lines:
        if match := re.fullmatch(r"step +(\d+)  loss (\S+)", line):
            assert found.setdefault(int(match[1]), match[2]) == match[2]
    return found


def whole_run(folder: Path) -> list[str]:
    done = subprocess.run(
        command(folder), capture_output=True, text=True, timeout=200, env=environment(), check=True
    )
    return done.stdout.splitlines()


def killed_after(line_start: str, folder: Path) -> list[str]:
    """What a run prints that is killed as soon as it has printed such a line."""
    lines = []
    with subprocess.Popen(
        command(folder), stdout=subprocess.PIPE, text=True, env=environment()
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            lines.append(line.rstrip("\n"))
            if line.startswith(line_start):
                process.kill()
                break
    assert process.returncode == -9
    return lines


@pytest.mark.slow
def test_it_is_killed_and_resumed(tmp_path: Path) -> None:
    expected = whole_run(tmp_path / "whole")
    first = killed_after("step   80", tmp_path / "run")
    second = whole_run(tmp_path / "run")

    assert first[0] == expected[0] == "from step 0"
    resumed_at = int(second[0].removeprefix("from step "))
    assert resumed_at % 10 == 0  # those on their way when it was killed may be lost
    assert 0 < resumed_at <= 80
    assert losses(first + second) == losses(expected)
    assert len(losses(expected)) == 10
    assert re.fullmatch(r"\d+ checkpoints; training waited \d+ ms in all", second[-1])


@pytest.mark.slow
def test_a_finished_run_does_nothing_more(tmp_path: Path) -> None:
    short = ("--steps", "10", "--every", "5", "--image", "32", "--batch", "2")
    run = [sys.executable, str(EXAMPLE), str(tmp_path / "run"), *short]
    outputs = [
        subprocess.run(run, capture_output=True, text=True, timeout=200, env=environment())
        for _ in range(2)
    ]
    assert [done.returncode for done in outputs] == [0, 0], outputs[1].stderr
    assert outputs[1].stdout.splitlines()[0] == "from step 10"
    assert losses(outputs[1].stdout.splitlines()) == {}
