"""The roster knows the living from the dead, and whoever comes next clears up behind those."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from remora.core.errors import PriorityTaken, RosterUnusable
from remora.share.policies.contract import Priority
from remora.share.system import leftovers, processes
from remora.share.system.leftovers import Stopped
from remora.share.system.roster import Entry, Roster, new_key
from remora.share.system.runtime_folder import runtime_folder

HOLD = """
import os, sys, time
from pathlib import Path
from remora.share.policies.contract import Priority
from remora.share.system import processes
from remora.share.system.roster import Entry, Roster
own = processes.stat(os.getpid())
entry = Entry("{key}", os.getpid(), "job.py", Priority.HIGH, time.time(),
              started_ticks=own.started_ticks, pid_namespace=processes.pid_namespace())
place = Roster(Path(sys.argv[1])).join(entry)
{then}
print("ready", flush=True)
time.sleep(60)
"""


@pytest.fixture
def roster(tmp_path: Path) -> Roster:
    return Roster(tmp_path / "remora")


def an_entry(priority: Priority = Priority.HIGH, *, exclusive: bool = False) -> Entry:
    return Entry(new_key(), os.getpid(), "serve.py", priority, time.time(), exclusive=exclusive)


def holder(roster: Roster, key: str, then: str = "") -> subprocess.Popen[str]:
    code = HOLD.format(key=key, then=then)
    job = subprocess.Popen(
        [sys.executable, "-c", code, str(roster.folder)], stdout=subprocess.PIPE, text=True
    )
    assert job.stdout is not None
    assert job.stdout.readline() == "ready\n"
    return job


def kill(job: subprocess.Popen[str]) -> None:
    job.kill()
    job.wait()
    assert job.stdout is not None
    job.stdout.close()


def names(roster: Roster) -> set[str]:
    return {each.name for each in roster.folder.iterdir()} - {"roster.lock"}


def test_who_joins_is_there_until_it_leaves(roster: Roster) -> None:
    place = roster.join(an_entry())
    assert [each.key for each in roster.jobs()] == [place.entry.key]
    place.leave()
    place.leave()
    assert roster.jobs() == []
    assert names(roster) == set()


def test_a_job_killed_is_gone_at_once_and_the_next_clears_up(roster: Roster) -> None:
    job = holder(roster, "a" * 16)
    assert len(roster.jobs()) == 1
    kill(job)
    assert roster.jobs() == []
    assert len(names(roster)) == 1
    roster.join(an_entry()).leave()
    assert names(roster) == set()


def test_a_child_that_outlives_the_job_does_not_hold_its_place(roster: Roster) -> None:
    then = "child = os.fork()\nif child == 0: time.sleep(60); os._exit(0)\nprint(child, flush=True)"
    code = HOLD.format(key="b" * 16, then=then)
    job = subprocess.Popen(
        [sys.executable, "-c", code, str(roster.folder)], stdout=subprocess.PIPE, text=True
    )
    assert job.stdout is not None
    child = int(job.stdout.readline())
    try:
        assert len(roster.jobs()) == 1
        kill(job)
        assert roster.jobs() == []
    finally:
        os.kill(child, signal.SIGKILL)


def test_one_of_many_hundred_is_found(roster: Roster) -> None:
    places = [roster.join(an_entry(Priority.BEST_EFFORT)) for _ in range(300)]
    began = time.process_time()
    assert len(roster.jobs()) == 300
    assert time.process_time() - began < 1
    for place in places:
        place.leave()
    assert roster.jobs() == []


@pytest.mark.parametrize(("first", "second"), [(True, False), (False, True), (True, True)])
def test_a_second_high_priority_job_is_refused_where_one_is_allowed(
    roster: Roster, first: bool, second: bool
) -> None:
    place = roster.join(an_entry(exclusive=first))
    roster.join(an_entry(Priority.BEST_EFFORT)).leave()
    said = r"runs already: serve.py \(process \d+\), and (this|that) job wants to be the only one"
    with pytest.raises(PriorityTaken, match=said):
        roster.join(an_entry(exclusive=second))
    place.leave()
    roster.join(an_entry(exclusive=second)).leave()


def test_a_dead_one_takes_no_place_from_one_that_wants_to_be_alone(roster: Roster) -> None:
    job = holder(roster, "c" * 16)
    kill(job)
    roster.join(an_entry(exclusive=True)).leave()


def test_foreign_files_are_named_and_left_alone(roster: Roster) -> None:
    foreign = ["notes.txt", "x.job", "deep.job", f"{'d' * 16}.job"]
    (roster.folder / foreign[0]).write_text("mine")
    (roster.folder / foreign[1]).write_bytes(b"\xff\x00{")
    (roster.folder / foreign[2]).mkdir()
    (roster.folder / foreign[3]).write_text('{"key": "another", "pid": 1}')
    place = roster.join(an_entry())
    assert roster.foreign_files() == sorted(foreign)
    assert len(roster.jobs()) == 1
    place.leave()
    assert names(roster) == set(foreign)


def test_a_lock_that_a_stopped_process_holds_is_not_waited_for_for_ever(roster: Roster) -> None:
    lock = os.open(roster.folder / "roster.lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(lock, fcntl.LOCK_EX)
    with pytest.raises(RosterUnusable, match="is held by another process"):
        roster.join(an_entry())
    os.close(lock)
    roster.join(an_entry()).leave()


def test_children_that_a_killed_guardian_left_stopped_are_continued(roster: Roster) -> None:
    job = holder(roster, "e" * 16)
    frozen = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    found = processes.stat(frozen.pid)
    assert found is not None
    leftovers.write_stopped(roster.folder, "e" * 16, [Stopped(frozen.pid, found.started_ticks)])
    os.kill(frozen.pid, signal.SIGSTOP)
    kill(job)
    roster.sweep()
    deadline = time.monotonic() + 5
    while (now := processes.stat(frozen.pid)) and now.state == "T" and time.monotonic() < deadline:
        time.sleep(0.01)
    assert now is not None
    assert now.state != "T"
    assert names(roster) == set()
    frozen.kill()
    frozen.wait()


def test_only_groups_of_our_making_are_removed(tmp_path: Path) -> None:
    other = tmp_path / "system.slice"
    ours = tmp_path / "remora-best-effort-ab"
    other.mkdir()
    ours.mkdir()
    assert leftovers.cleared(tmp_path, "ab", str(other))
    assert leftovers.cleared(tmp_path, "ab", str(ours))
    assert other.exists()
    assert not ours.exists()


def test_a_folder_that_is_open_to_others_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "remora"
    folder.mkdir()
    folder.chmod(0o755)
    with pytest.raises(RosterUnusable, match="open to others; run: chmod 700"):
        Roster(folder)


def test_a_link_or_a_file_in_its_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "link").symlink_to(tmp_path)
    for name in ("file", "link"):
        with pytest.raises(RosterUnusable):
            Roster(tmp_path / name)


def test_the_folder_is_the_users_own(tmp_path: Path) -> None:
    assert runtime_folder({"XDG_RUNTIME_DIR": str(tmp_path)}) == tmp_path / "remora"
    own = Path(f"/tmp/remora-{os.getuid()}")
    assert runtime_folder({}) == own
    assert runtime_folder({"XDG_RUNTIME_DIR": str(tmp_path / "missing")}) == own
    Roster(tmp_path / "new")
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o700
