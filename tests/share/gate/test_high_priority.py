"""A high-priority job at the gate: when it takes a slot, and when it has hooks."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from tests.share.gate.members import Members
from tests.share.system.jobs import wait_until

from remora.share.gate import high_priority
from remora.share.gate.driver import CpuDriver
from remora.share.gate.high_priority import HighPriority
from remora.share.gate.memory import SLOTS, Memory
from remora.share.gate.watching import Lines, Watchers
from remora.share.system.roster import Roster, new_key


class Steps:
    """A job's forwards, which a test makes."""

    def __init__(self) -> None:
        self.hooks: list[tuple[Callable[..., object] | None, Callable[..., object] | None]] = []

    def subscribe_forward(self, after: Any = None, before: Any = None) -> Any:
        pair = (after, before)
        self.hooks.append(pair)
        return SimpleNamespace(remove=lambda: self.hooks.remove(pair))

    def forward(self, meanwhile: Callable[[], object] = lambda: None) -> None:
        for _, before in list(self.hooks):
            if before:
                before(None)
        meanwhile()
        for after, _ in list(self.hooks):
            if after:
                after(None)


class Job:
    def __init__(self, roster: Roster, key: str, **options: Any) -> None:
        self.steps, self.said = Steps(), list[str]()
        self.at_gate = HighPriority(roster, key, self, self.said.append, **options)  # type: ignore[arg-type]


def test_it_has_a_slot_and_no_hook_until_somebody_waits(roster: Roster, members: Members) -> None:
    key = members.join()
    job, lines = Job(roster, key, waits_for_cuda=False), Lines()
    slot = job.at_gate.slot
    assert slot is not None
    job.steps.forward()
    assert (job.steps.hooks, slot.begun) == ([], 0)
    lines.keep([key])
    wait_until(lambda: job.steps.hooks, 5)
    job.steps.forward(lambda: lines.keep([key]))
    assert (slot.begun, slot.is_shut) == (1, False)
    shut = list[bool]()
    job.steps.forward(lambda: shut.append(slot.is_shut))
    assert shut == [True]
    lines.let_go()
    wait_until(lambda: not job.steps.hooks, 5)
    job.at_gate.close()
    job.at_gate.close()
    assert {each.name for each in roster.folder.iterdir()} == {"roster.lock", f"{key}.job"}


def test_who_stops_to_wait_in_the_middle_of_a_request_leaves_an_open_gate(
    roster: Roster, members: Members
) -> None:
    key = members.join()
    job, lines = Job(roster, key, waits_for_cuda=False), Lines()
    slot = job.at_gate.slot
    assert slot is not None
    lines.keep([key])
    wait_until(lambda: job.steps.hooks, 5)

    def leave() -> None:
        assert slot.is_shut
        lines.let_go()
        wait_until(lambda: not slot.is_shut, 5)

    job.steps.forward(leave)
    job.at_gate.close()


def test_several_that_wait_are_one_hook(roster: Roster, members: Members) -> None:
    key = members.join()
    job, first, second = Job(roster, key, waits_for_cuda=False), Lines(), Lines()
    first.keep([key])
    second.keep([key])
    wait_until(lambda: job.steps.hooks, 5)
    first.let_go()
    second.keep([key, new_key()])  # where nobody listens there is no line
    assert len(job.steps.hooks) == 1
    job.at_gate.close()
    assert job.steps.hooks == []
    second.let_go()


def test_a_ninth_says_so_and_goes_on(roster: Roster, members: Members) -> None:
    memory = Memory(roster, "cpu")
    for _ in range(SLOTS):
        memory.take(members.join())
    ninth = Job(roster, members.join(), waits_for_cuda=False)
    assert ninth.at_gate.slot is None
    [said] = ninth.said
    assert said.startswith("gate: 8 high-priority jobs are at this device already; this one goes")
    ninth.steps.forward()
    ninth.at_gate.close()


def test_by_a_gpu_it_takes_its_slot_once_cuda_has_memory(
    roster: Roster, members: Members, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_use: list[int | None] = [None]
    monkeypatch.setattr(high_priority, "cuda_in_use", lambda: in_use[0])
    made: list[int] = []

    class Driver(CpuDriver):
        def __init__(self, index: int) -> None:
            super().__init__()
            made.append(index)
            self.device = "0000-1"

    monkeypatch.setattr(high_priority, "CudaDriver", Driver)
    job = Job(roster, members.join(), waits_for_cuda=True)
    job.steps.forward()
    assert job.at_gate.slot is None
    in_use[0] = 1
    job.steps.forward()
    assert (made, job.steps.hooks) == ([1], [])
    assert (roster.folder / "gate-0000-1").exists()
    job.at_gate.close()


def test_a_line_ends_with_its_process_however_that_ends() -> None:
    came: list[str] = []
    key = new_key()
    watchers = Watchers(key, lambda: came.append("first"), lambda: came.append("last"))
    code = (
        "import os, sys, time\n"
        "from remora.share.gate.watching import Lines\n"
        "lines = Lines(); lines.keep([sys.argv[1]])\n"
        "if child := os.fork():\n"
        "    print(child, flush=True); time.sleep(60)\n"
        "os.close(1); os.close(2); time.sleep(60)\n"  # a loader's worker that outlives it
    )
    process = subprocess.Popen([sys.executable, "-c", code, key], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    child = int(process.stdout.readline())
    try:
        wait_until(lambda: came == ["first"], 5)
        process.kill()
        process.communicate()
        wait_until(lambda: came == ["first", "last"], 5)
    finally:
        os.kill(child, 9)
        watchers.close()
