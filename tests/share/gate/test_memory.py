"""The file that processes share: slots, owners, and what becomes of it when they die."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.share.gate.members import Members

from remora.core.errors import RosterUnusable
from remora.share.gate.memory import SIZE, SLOTS, VERSION, Memory
from remora.share.system.leftovers import GATE_MAGIC
from remora.share.system.roster import Roster


def test_one_process_sees_what_another_counts(roster: Roster, members: Members) -> None:
    high, best_effort = Memory(roster, "cpu"), Memory(roster, "cpu")
    slot = high.take(members.join())
    assert slot is not None
    assert not any(best_effort.pairs)
    slot.begin()
    assert list(best_effort.pairs[:2]) == [1, 0]
    slot.begin()
    slot.open()
    assert list(best_effort.pairs[:2]) == [2, 2]
    slot.note(5)
    slot.note(7)
    assert best_effort.noted(slot.place) == (2, 12)


def test_a_number_that_is_full_begins_anew(roster: Roster, members: Members) -> None:
    memory = Memory(roster, "cpu")
    slot = memory.take(members.join())
    assert slot is not None
    memory.pairs[0] = memory.pairs[1] = 2**32 - 1
    slot.begin()
    assert slot.begun == 0
    assert slot.is_shut


def test_the_file_is_gone_with_the_last_that_used_it(roster: Roster) -> None:
    first, second = Memory(roster, "cpu"), Memory(roster, "cpu")
    first.close()
    first.close()
    assert first.path.exists()
    second.close()
    assert not first.path.exists()


def test_a_ninth_job_has_none(roster: Roster, members: Members) -> None:
    memory = Memory(roster, "cpu")
    keys = [members.join() for _ in range(SLOTS)]
    slots = [memory.take(key) for key in keys]
    assert [slot.place for slot in slots if slot] == list(range(SLOTS))
    assert memory.take(members.join()) is None
    members.die(keys[3])
    ninth = memory.take(members.join())
    assert ninth is not None
    assert ninth.place == 3


@pytest.mark.parametrize("how", ["killed", "number used anew", "left"])
def test_a_slot_of_a_dead_job_is_freed_and_its_gate_opened(
    how: str, roster: Roster, members: Members
) -> None:
    memory = Memory(roster, "cpu")
    key = members.join(started_ticks=1 if how == "number used anew" else None)
    slot = memory.take(key)
    assert slot is not None
    slot.begin()
    if how == "killed":
        members.die(key)
    elif how == "left":
        members.leave()
    memory.free_dead()
    assert memory.owners() == [None] * SLOTS
    assert not slot.is_shut
    assert slot.begun == 1  # numbers go on: who waits sees that the next has begun


def test_a_slot_of_a_job_that_lives_is_left(roster: Roster, members: Members) -> None:
    memory = Memory(roster, "cpu")
    slot = memory.take(members.join())
    assert slot is not None
    slot.begin()
    memory.free_dead()
    assert slot.is_shut


def test_what_is_no_key_is_freed(roster: Roster) -> None:
    memory = Memory(roster, "cpu")
    memory._set_owner(2, b"../../etc/passwd")
    memory.free_dead()
    assert memory._key(2) == bytes(16)


@pytest.mark.parametrize(
    "contents",
    [
        b"somebody's own",
        bytes(SIZE),
        GATE_MAGIC + (VERSION + 1).to_bytes(4, sys.byteorder) + bytes(SIZE - 12),
        GATE_MAGIC,
    ],
)
def test_another_file_is_refused_and_left_alone(contents: bytes, roster: Roster) -> None:
    path = roster.folder / "gate-cpu"
    path.write_bytes(contents)
    with pytest.raises(RosterUnusable, match=r"is damaged, or of another version.* remove it"):
        Memory(roster, "cpu")
    assert path.read_bytes() == contents
    is_named = "gate-cpu" in roster.foreign_files()
    assert is_named != contents.startswith(GATE_MAGIC)


def test_a_link_is_not_followed(roster: Roster, tmp_path: Path) -> None:
    (tmp_path / "target").write_bytes(b"")
    (roster.folder / "gate-cpu").symlink_to(tmp_path / "target")
    with pytest.raises(RosterUnusable, match="remove it"):
        Memory(roster, "cpu")
    assert (tmp_path / "target").read_bytes() == b""


def test_one_that_was_killed_while_it_made_the_file_keeps_nobody(roster: Roster) -> None:
    (roster.folder / "gate-cpu").touch()
    assert Memory(roster, "cpu").owners() == [None] * SLOTS


def test_what_dead_jobs_leave_the_next_to_look_removes(roster: Roster) -> None:
    code = (
        "import os, signal, sys; from pathlib import Path\n"
        "from remora.share.gate.memory import Memory\n"
        "from remora.share.system.roster import Roster\n"
        "memory = Memory(Roster(Path(sys.argv[1])), 'cpu')\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    subprocess.run([sys.executable, "-c", code, str(roster.folder)], check=False)
    assert (roster.folder / "gate-cpu").exists()
    assert roster.foreign_files() == []
    roster.sweep()
    assert not (roster.folder / "gate-cpu").exists()


def test_a_child_that_outlives_its_parent_does_not_keep_the_file(roster: Roster) -> None:
    code = (
        "import os, sys, time; from pathlib import Path\n"
        "from remora.share.gate.memory import Memory\n"
        "from remora.share.system.roster import Roster\n"
        "memory = Memory(Roster(Path(sys.argv[1])), 'cpu')\n"
        "if child := os.fork():\n"
        "    print(child, flush=True); os._exit(0)\n"
        "os.close(1); os.close(2); time.sleep(60)\n"
    )
    shown = subprocess.run(
        [sys.executable, "-c", code, str(roster.folder)], capture_output=True, text=True, check=True
    )
    try:
        roster.sweep()
        assert not (roster.folder / "gate-cpu").exists()
    finally:
        os.kill(int(shown.stdout), 9)
