"""The contract of a mechanism, held against every implementation, each in a process of its own.

The control group is skipped where no part of a hierarchy with a CPU controller is ours.
"""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from remora.share.system.mechanisms.nice import LEAST
from remora.share.system.mechanisms.registry import MECHANISMS

BEGIN = """
import os, subprocess, sys, threading, time
from pathlib import Path
from remora.core.errors import NotPermitted
from remora.share.system import processes
from remora.share.system.mechanisms.contract import Context
from remora.share.system.mechanisms.registry import MECHANISMS
from remora.share.system.roster import new_key

before = threading.Thread(target=time.sleep, args=(30,), daemon=True)
before.start()
mechanism = MECHANISMS[sys.argv[1]]()
context = Context(new_key(), Path(sys.argv[2]))
try:
    mechanism.apply(context)
except NotPermitted as error:
    print("not permitted:", error)
    sys.exit()
"""
ACTS = [name for name in MECHANISMS if name != "none"]


def held(name: str, folder: Path, code: str) -> str:
    """What ``code`` prints after the mechanism has been applied."""
    folder.chmod(0o700)
    program = BEGIN + textwrap.dedent(code)
    done = subprocess.run(
        [sys.executable, "-c", program, name, str(folder)],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    if done.stdout.startswith("not permitted: "):
        assert name == "cgroup", done.stdout
        assert "; to have it, " in done.stdout
        pytest.skip(f"{name} is {done.stdout.strip()}")
    return done.stdout.strip()


@pytest.mark.parametrize("name", ACTS)
def test_it_acts_on_every_thread_and_on_children_as_it_says(name: str, tmp_path: Path) -> None:
    code = """
        after = threading.Thread(target=time.sleep, args=(30,), daemon=True)
        after.start()
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(30)"])
        time.sleep(0.2)
        print(*(mechanism.holds(each) for each in
                (os.getpid(), before.native_id, after.native_id, child.pid)))
        child.kill()
    """
    children = MECHANISMS[name].acts_on_children
    assert held(name, tmp_path, code) == f"True True True {children}"


@pytest.mark.parametrize("name", MECHANISMS)
def test_undone_it_acts_no_longer(name: str, tmp_path: Path) -> None:
    if name == "nice" and os.nice(0) == LEAST:
        pytest.skip("these tests run as nice as can be: nothing is to be seen of it")
    code = """
        mechanism.undo()
        mechanism.undo()
        print(mechanism.holds(os.getpid()), mechanism.holds(before.native_id))
    """
    assert held(name, tmp_path, code) == "False False"


@pytest.mark.parametrize("name", MECHANISMS)
def test_undoing_what_was_not_applied_does_no_harm(name: str) -> None:
    mechanism = MECHANISMS[name]()
    mechanism.undo()
    assert not mechanism.holds(1)


@pytest.mark.parametrize("name", MECHANISMS)
def test_it_may_be_applied_again(name: str, tmp_path: Path) -> None:
    code = """
        mechanism.undo()
        mechanism.apply(context)
        print(mechanism.holds(os.getpid()))
    """
    assert held(name, tmp_path, code) == str(name != "none")


@pytest.mark.parametrize("name", MECHANISMS)
def test_the_job_meets_no_child_and_no_thread_of_its(name: str, tmp_path: Path) -> None:
    code = """
        try:
            print(os.waitpid(-1, os.WNOHANG))
        except ChildProcessError:
            print("no child", len(threading.enumerate()))
    """
    assert held(name, tmp_path, code) == "no child 2"


@pytest.mark.parametrize("name", ACTS)
def test_it_falls_back_to_one_that_asks_for_less(name: str) -> None:
    met = [name]
    while met[-1] != "none":
        met.append(MECHANISMS[met[-1]].falls_back_to)
        assert len(met) <= len(MECHANISMS)
    assert MECHANISMS["none"].falls_back_to == "none"
