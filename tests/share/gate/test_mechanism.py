"""The mechanism: one word for it and its policy, what it needs, and what comes without that."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from tests.share.gate.pair import PYTHON_HOOK
from tests.share.system.jobs import names, run, wait_until

from remora.core.errors import BadValue, UnknownName
from remora.share.gate.device import has_nvidia
from remora.share.policies.registry import Choice as Policy
from remora.share.system.mechanisms import registry
from remora.share.system.mechanisms.gate import GateOptions
from remora.share.system.mechanisms.registry import Choice, parse_choice

MS = 1_000_000
GATE = ("--priority", "best-effort", "--share-mechanism", "gate")


def options(text: str) -> GateOptions:
    found = parse_choice(text).create().options
    assert isinstance(found, GateOptions)
    return found


def test_it_and_its_policy_are_one_word() -> None:
    text = "gate:policy=priority+min-wait,min-wait=2ms,in-flight=0.5ms,longest-wait=1s"
    terms = options(text).terms
    assert terms.policy == Policy("priority+min-wait", {"min_wait_ns": 2 * MS})
    assert (terms.in_flight_ns, terms.longest_wait_ns) == (MS // 2, 1000 * MS)
    assert str(parse_choice(text)) == text.replace("1s", "1000ms")
    assert parse_choice(str(parse_choice(text))) == parse_choice(text)


@pytest.mark.parametrize(
    ("text", "in_flight_ns", "turnaround_ns"),
    [
        ("gate", MS, None),
        ("gate:policy=priority+slicing", MS // 10, MS // 10),
        ("gate:policy=priority+slicing,turnaround=2ms", 2 * MS, 2 * MS),
        ("gate:policy=priority+slicing,turnaround=2ms,in-flight=3ms", 3 * MS, 2 * MS),
    ],
)
def test_what_is_in_flight_is_bounded_by_the_turnaround_or_a_millisecond(
    text: str, in_flight_ns: int, turnaround_ns: int | None
) -> None:
    assert options(text).terms.in_flight_ns == in_flight_ns
    assert options(text).turnaround_ns == turnaround_ns


@pytest.mark.parametrize(
    ("text", "error", "said"),
    [
        ("gate:policy=fifo", BadValue, "choose from: priority, priority+min-wait, "),
        ("gate:policy=prioritty", UnknownName, "did you mean 'priority'?"),
        ("gate:policy=priority,min-wait=1ms", UnknownName, "option of mechanism gate 'min-wait'"),
        ("gate:turnaround=1ms", UnknownName, "choose from: floor, in-flight, longest-sleep, "),
        ("gate:longest-wait=0", BadValue, "choose more than 0, such as 10s"),
        ("gate:longest-sleep=0", BadValue, "choose more than 0, such as 0.2ms"),
        ("gate:policy", BadValue, "write policy=VALUE"),
        ("gate:floor=2", BadValue, "choose a share of the device"),
    ],
)
def test_what_cannot_be_is_refused(text: str, error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=re.escape(said)):
        parse_choice(text)


def test_it_is_the_default_where_an_nvidia_device_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "nvidiactl").touch()
    assert not has_nvidia(tmp_path)
    (tmp_path / "nvidia0").touch()
    assert has_nvidia(tmp_path)
    monkeypatch.setattr(registry, "has_nvidia", lambda: False)
    assert Choice().name == "idle"
    monkeypatch.setattr(registry, "has_nvidia", lambda: True)
    assert Choice().name == "gate"


SHOW = """
import os, torch
torch.ones(2) + 1
print(os.sched_getscheduler(0) == os.SCHED_IDLE)
"""
NO_HOOK = """
import remora.share.interception.registry as hooks
from remora.core.errors import Unavailable
def best():
    raise Unavailable("no hook")
hooks.best = best
"""


@pytest.fixture
def job(tmp_path: Path) -> Path:
    (tmp_path / "job.py").write_text(SHOW)
    return tmp_path


def test_alone_the_job_is_what_it_is_and_leaves_nothing(job: Path) -> None:
    shown = run(job, "run", *GATE, "job.py", before=PYTHON_HOOK)
    assert (shown.returncode, shown.stderr) == (0, "")
    wait_until(lambda: names(job) == {"roster.lock"}, 5)


def test_without_a_hook_it_falls_back_and_says_so(job: Path) -> None:
    shown = run(job, "run", *GATE, "job.py", before=NO_HOOK)
    assert (shown.returncode, shown.stdout) == (0, "True\n")
    assert shown.stderr == "remora: share: gate: no hook; idle instead\n"
    assert names(job) == {"roster.lock"}


def test_without_a_roster_it_falls_back_and_says_so(job: Path) -> None:
    (job / "remora").write_text("")
    shown = run(job, "run", *GATE, "job.py", before=PYTHON_HOOK)
    assert (shown.returncode, shown.stdout) == (0, "True\n")
    assert "gate: needs the roster, to know who serves; mend that first; idle" in shown.stderr


@pytest.mark.parametrize("priority", ["high", "best-effort"])
def test_beside_a_damaged_file_the_job_goes_on_and_says_so(priority: str, job: Path) -> None:
    (job / "remora").mkdir(mode=0o700)
    (job / "remora" / "gate-cpu").write_bytes(b"damaged")
    extra = ("--share-mechanism", "gate") if priority == "best-effort" else ()
    shown = run(job, "run", "--priority", priority, *extra, "job.py", before=PYTHON_HOOK)
    assert shown.returncode == 0
    assert shown.stderr.count("\n") == 1
    assert "is damaged, or of another version of Remora; end the jobs that use" in shown.stderr


def test_a_folder_that_cannot_be_written_stops_nobody(job: Path) -> None:
    (job / "remora").mkdir(mode=0o500)
    for options in (("--priority", "high"), GATE):
        shown = run(job, "run", *options, "job.py", before=PYTHON_HOOK + UNPRIVILEGED)
        assert shown.returncode == 0, shown.stderr
        assert "cannot be written; run: chmod 700" in shown.stderr


UNPRIVILEGED = """
import os
os.access = lambda path, mode: False  # what root is never told
"""


def test_a_failure_at_the_gate_is_not_the_programs(job: Path) -> None:
    broken = PYTHON_HOOK + (
        "\nfrom remora.share.gate.waiting import Waiting\n"
        "def fails(self): raise RuntimeError('out of order')\n"
        "Waiting.passing = fails\n"
    )
    shown = run(job, "run", *GATE, "job.py", before=broken)
    assert (shown.returncode, shown.stdout) == (0, "True\n")
    assert shown.stderr == (
        "remora: share: gate: it has failed (RuntimeError: out of order); idle instead\n"
    )


def test_an_undone_mechanism_lets_all_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from remora.share.interception import registry as hooks
    from remora.share.system.mechanisms.contract import Context
    from remora.share.system.mechanisms.gate import Gate
    from remora.share.system.roster import new_key

    monkeypatch.setattr(hooks, "best", lambda: hooks.create("python"))
    mechanism, given = Gate(nvidia=False), list[Any]()
    tmp_path.chmod(0o700)
    mechanism.apply(Context(new_key(), tmp_path))
    given.append(torch.ones(2) + 1)
    mechanism.undo()
    given.append(torch.ones(2) + 1)
    assert torch.equal(*given)
    assert {each.name for each in tmp_path.iterdir()} == {"roster.lock"}


BY_A_GPU = (
    "import remora.share.gate.device as device\n"
    "device.has_nvidia = lambda *_: True\n"
    "import remora.share.interception.registry as hooks\n"
    "hooks.best = lambda: hooks.create('python')\n"
)
"""As where an NVIDIA device is, that torch cannot use here."""


@pytest.mark.parametrize("priority", ["high", "best-effort"])
def test_by_a_gpu_a_job_that_uses_none_is_at_no_gate_and_gives_way_on_the_cpu(
    priority: str, job: Path
) -> None:
    (job / "job.py").write_text(
        f"{SHOW}\ntorch.nn.Linear(2, 2)(torch.ones(2))\n"
        "print(os.listdir('remora'), torch.cuda.is_initialized())"
    )
    shown = run(job, "run", "--priority", priority, "job.py", before=BY_A_GPU)
    assert (shown.returncode, shown.stderr) == (0, "")
    assert "gate-" not in shown.stdout
    assert "False" in shown.stdout.splitlines()[-1]
    if priority == "best-effort":
        assert shown.stdout.startswith("True\n")
    assert "an NVIDIA device is here: best-effort jobs give way by `gate`" in (
        run(job, "share", "status", before=BY_A_GPU).stdout.replace("\n", " ")
    )
    assert names(job) == {"roster.lock"}
