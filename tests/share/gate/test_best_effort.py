"""Which gate a best-effort job is at, and that nothing of it becomes the program's trouble."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.share.gate.fake_driver import FakeDriver
from tests.share.gate.members import Members

from remora.share.gate import best_effort
from remora.share.gate.best_effort import DEVICE_LOOK_NS, BestEffort, Terms
from remora.share.gate.memory import Memory
from remora.share.gate.waiting import Patience
from remora.share.policies.registry import Choice
from remora.share.system.roster import Roster

TERMS = Terms(Choice("priority"), 1_000_000, 50_000_000, Patience())


class Clock:
    now_ns = 1

    def __call__(self) -> int:
        return self.now_ns


def test_on_a_cpu_it_is_at_that_gate_from_the_start(roster: Roster, members: Members) -> None:
    job = BestEffort(roster, TERMS, waits_for_cuda=False, failed=pytest.fail)
    slot = Memory(roster, "cpu").take(members.join())
    assert slot is not None
    slot.begin()
    assert list(job.pairs[:2]) == [1, 0]
    job.passing()  # passed over at its longest wait
    assert job.waited_ns > 40_000_000
    job.close()


def test_by_a_gpu_it_goes_to_the_device_that_it_uses(
    roster: Roster, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_use: list[int | None] = [None]
    drivers: list[FakeDriver] = []

    def driver_of(index: int) -> FakeDriver:
        drivers.append(FakeDriver())
        drivers[-1].device = f"0000-{index}"
        return drivers[-1]

    monkeypatch.setattr(best_effort, "cuda_in_use", lambda: in_use[0])
    monkeypatch.setattr(best_effort, "CudaDriver", driver_of)
    clock = Clock()
    job = BestEffort(roster, TERMS, waits_for_cuda=True, failed=pytest.fail, now_ns=clock)
    assert not any(job.pairs)
    job.passing()
    assert drivers == []
    for index in (0, 1):
        in_use[0] = index
        clock.now_ns += DEVICE_LOOK_NS
        job.passing()
        assert (roster.folder / f"gate-0000-{index}").exists()
        assert drivers[-1].marks
    assert not (roster.folder / "gate-0000-0").exists()
    job.close()
    assert {each.name for each in roster.folder.iterdir()} == {"roster.lock"}


def test_what_goes_wrong_is_told_once_and_all_pass(
    roster: Roster, monkeypatch: pytest.MonkeyPatch
) -> None:
    def in_use() -> int:
        raise RuntimeError("CUDA error: device-side assert triggered\nmore of it")

    monkeypatch.setattr(best_effort, "cuda_in_use", in_use)
    said: list[str] = []
    job = BestEffort(roster, TERMS, waits_for_cuda=True, failed=said.append)
    job.passing()
    job.passing()
    assert said == ["RuntimeError: CUDA error: device-side assert triggered"]
    job.close()


def test_children_pass_freely(roster: Roster, members: Members) -> None:
    slot = Memory(roster, "cpu").take(members.join())
    assert slot is not None
    code = (
        "import os, sys; from pathlib import Path\n"
        "from tests.share.gate.test_best_effort import *\n"
        "roster = Roster(Path(sys.argv[1]))\n"
        "job = BestEffort(roster, TERMS, waits_for_cuda=False, failed=print)\n"
        "job.passing()\n"
        "Memory(roster, 'cpu').pairs[0] += 1\n"
        "if child := os.fork():\n"
        "    os.waitpid(child, 0)\n"
        "else:\n"
        "    job.passing()\n"
        "    print(job.waited_ns, flush=True); os._exit(0)\n"
    )
    root = Path(__file__).parents[3]
    shown = subprocess.run(
        [sys.executable, "-c", code, str(roster.folder)],
        capture_output=True, text=True, check=True,
        env=os.environ | {"PYTHONPATH": f"{root / 'src'}:{root}"},
    )  # fmt: skip
    assert shown.stdout == "0\n"
