"""``remora run --record/--learn``, ``learn``, ``check`` and ``invariants``, as a user sees them."""

from __future__ import annotations

import json
import shutil
import textwrap
from pathlib import Path
from typing import NamedTuple

import pytest
from tests.check.traincheck.lines import api, line
from tests.cli.commands import Command, call

from remora.check.invariants import (
    Header,
    HeldOut,
    Invariants,
    Source,
    read_invariants,
    write_invariants,
)
from remora.check.invariants import Invariant as One
from remora.check.relations.contains import Contains
from remora.check.relations.cover import Cover

TRAINING = textwrap.dedent("""
    import sys
    import torch
    import torch.nn.functional as F

    torch.manual_seed(0)
    net = torch.nn.Linear(4, 3)
    adam = torch.optim.Adam(net.parameters())
    for step in range(6):
        if "forgets" not in sys.argv or step < 3:
            adam.zero_grad()
        F.cross_entropy(F.relu(net(torch.ones(2, 4))), torch.tensor([0, 1])).backward()
        adam.step()
""")
FORGOTTEN = """\
step 3: an invariant does not hold [232d0964]
  expected: torch.Tensor.backward is called only after torch.optim.Optimizer.zero_grad or \
torch.nn.Module.zero_grad, each time anew
  seen:     no call of torch.optim.Optimizer.zero_grad or torch.nn.Module.zero_grad since the \
last call of torch.Tensor.backward
"""


@pytest.fixture(scope="module")
def jobs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder after three runs: live.inv of a healthy one, traces of it, of another, of a bad."""
    where = tmp_path_factory.mktemp("jobs")
    (where / "train.py").write_text(TRAINING)
    for command in (
        ("run", "--learn", "live.inv", "--record", "runs/a", "train.py"),
        ("run", "--record", "runs/b", "train.py"),
        ("run", "--record", "runs/bad", "train.py", "forgets"),
    ):
        done = run(where, *command)
        assert done.returncode == 0, done.stderr
    return where


def run(folder: Path, *arguments: str) -> Done:
    """``remora ARGUMENTS`` in ``folder``."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        return Done(*call(*arguments))


class Done(NamedTuple):
    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def here(jobs: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(jobs)
    return jobs


# ---------------------------------------------------------------- record, learn, check


def test_a_trace_teaches_what_the_run_itself_taught(here: Path, command: Command) -> None:
    count = len(read_invariants(here / "live.inv").invariants)
    assert count > 10
    assert command("learn", "-o", "a.inv", "runs/a") == (
        0, f"{count} invariants of 6 steps in a.inv\n", ""
    )  # fmt: skip
    assert (here / "a.inv").read_bytes() == (here / "live.inv").read_bytes()


def test_a_check_of_a_trace_says_what_a_live_one_says(here: Path, command: Command) -> None:
    count = len(read_invariants(here / "live.inv").invariants)
    assert command("check", "live.inv", "runs/b") == (
        0, f"runs/b: {count} invariants over 6 steps: {count} passed, 0 not triggered\n", ""
    )  # fmt: skip
    live = run(here, "run", "--check", "live.inv", "--report", "l.json", "train.py", "forgets")
    code, shown, _ = command("check", "live.inv", "runs/b", "runs/bad", "--report", "x.json")
    assert (code, shown) == (2, "")
    code, shown, _ = command("check", "live.inv", "runs/bad", "--report", "later.json")
    assert code == 1
    assert FORGOTTEN in shown
    at = f" ({here / 'train.py'}:"
    said = [line.split(at)[0] for line in live.stderr.replace("remora check: ", "").splitlines()]
    assert shown.replace("runs/bad: ", "").splitlines() == said
    assert without_place(here / "later.json") == without_place(here / "l.json")


def test_a_violation_costs_the_exit_code_only_when_asked(here: Path) -> None:
    checked = ["run", "--check", "live.inv"]
    assert run(here, *checked, "train.py", "forgets").returncode == 0
    assert run(here, *checked, "--strict", "train.py", "forgets").returncode == 1


def test_a_violation_may_end_the_run(here: Path) -> None:
    ended = run(
        here, "run", "--check", "live.inv", "--on-violation", "raise", "train.py", "forgets"
    )

    assert ended.returncode == 1
    assert "step 3: an invariant does not hold" in ended.stderr
    assert "Traceback" not in ended.stderr


def without_place(path: Path) -> dict[str, object]:
    report: dict[str, object] = json.loads(path.read_text())
    for violation in report["violations"]:  # type: ignore[attr-defined]
        violation.pop("where")
    return report


def test_several_traces_are_checked_one_by_one(here: Path, command: Command) -> None:
    code, shown, _ = command("check", "live.inv", "runs/b", "runs/bad")
    assert code == 1
    assert shown.index("runs/b: ") < shown.index("step 3: ") < shown.index("runs/bad: ")


def test_what_fails_in_a_run_held_out_is_said_on_the_screen(here: Path, command: Command) -> None:
    code, shown, _ = command("learn", "-o", "h.inv", "runs/a", "--held-out", "runs/bad")
    assert code == 0
    *dropped, held, last = shown.splitlines()
    assert dropped[0].startswith("dropped [")
    assert "no call of torch.optim.Optimizer.zero_grad or" in dropped[0]
    assert "since the last call of torch.Tensor.backward" in dropped[0]
    assert held == f"held out train.py (6 steps): {len(dropped)} dropped"
    assert last.endswith("invariants of 6 steps in h.inv")
    assert len(read_invariants(here / "h.inv").header.held_out[0].dropped) == len(dropped) > 3


def test_learning_into_a_file_that_is_there_says_what_goes(here: Path) -> None:
    shutil.copy("live.inv", "grown.inv")
    done = run(here, "run", "--learn", "grown.inv", "train.py", "forgets")
    assert done.returncode == 0
    lines = [line for line in done.stderr.splitlines() if line.startswith("remora check: ")]
    assert any(
        "[232d0964]" in line and "does not hold in step 3 of this run" in line for line in lines
    )
    assert lines[-1].endswith(" of 12 steps of 2 runs in grown.inv")


def test_a_trace_is_not_written_over_unless_asked(here: Path) -> None:
    shutil.copytree("runs/a", "runs/c")
    refused = run(here, "run", "--record", "runs/c", "train.py")
    assert refused.returncode == 2
    assert refused.stderr.startswith("remora: runs/c holds a trace already (rank0-pid")
    assert run(here, "run", "--record", "runs/c", "--overwrite", "train.py").returncode == 0
    assert len(list((here / "runs" / "c").iterdir())) == 1


@pytest.mark.parametrize(("arguments", "said"), [
    (("learn", "-o", "x.inv", "."),
     "remora: . holds no trace; record one with `remora run --record DIR script.py`\n"),
    (("learn", "-o", "x.inv", "runs/a", "--held-out", "runs/a"),
     "remora: runs/a is learned from and held out; hold out a run of its own\n"),
    (("check", "none.inv", "runs/a"),
     "remora: none.inv cannot be read: No such file or directory; learn invariants with "
     "`remora run --learn none.inv script.py`\n"),
    (("check", "live.inv", "runs/a", "runs/b", "--report", "x.json"),
     "remora: --report takes one trace; run the command once for each\n"),
    (("invariants", "merge", "live.inv", "-o", "x.inv"),
     "remora: merge takes two files or more; give each once\n"),
    (("invariants", "prune", "live.inv", "-o", "x.inv"),
     "remora: say what to take out: --drop NAME, --relation NAME or --fewest N\n"),
    (("invariants", "prune", "live.inv", "-o", "x.inv", "--drop", "abc"),
     "remora: no invariant is called 'abc'; `remora invariants show FILE` lists their names\n"),
], ids=lambda value: " ".join(value) if isinstance(value, tuple) else "")  # fmt: skip
def test_mistakes(here: Path, command: Command, arguments: tuple[str, ...], said: str) -> None:
    assert command(*arguments) == (2, "", said)
    assert not (here / "x.inv").exists()


# ---------------------------------------------------------------- invariants

A_B = One(claim=Contains("net.forward", "linear"), support=1240)
A_C = One(claim=Contains("net.forward", "relu"), support=5)
D_E = One(claim=Cover("backward", "step"), support=9, against=2)


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    source = Source(program="train.py", steps=1000, calls={"net.forward": 1240, "step": 9})
    held = HeldOut(program="other.py", steps=20, dropped=("00000000",))
    header = Header(torch="2.9.0", sources=(source,), held_out=(held,))
    path = Path("f.inv")
    write_invariants(path, Invariants(header=header, invariants=(A_B, D_E, A_C)))
    return path


SHOWN = f"""\
3 invariants of 1,000 steps, torch 2.9.0
learned from train.py, 1,000 steps
checked against other.py, 20 steps: 1 dropped

contains: 2
  {A_B.name}  1,240 ×  net.forward calls linear
  {A_C.name}      5 ×  net.forward calls relu

cover: 1
  {D_E.name}  9 ×  step is called only after backward, each time anew
"""


def test_show(file: Path, command: Command) -> None:
    assert command("invariants", "show", file) == (0, SHOWN, "")
    head, _, cover = SHOWN.split("\n\n")
    assert command("invariants", "show", file, "--relation", "cover")[1] == f"{head}\n\n{cover}"
    assert command("invariants", "show", file, "--function", "relu")[1].endswith(
        f"\n\ncontains: 1\n  {A_C.name}  5 ×  net.forward calls relu\n"
    )
    assert command("invariants", "show", file, "--name", D_E.name)[1] == f"{head}\n\n{cover}"
    assert command("invariants", "show", file, "--function", "none")[1] == f"{head}\n"


def test_show_as_json(file: Path, command: Command) -> None:
    shown = command("invariants", "show", file, "--json", "--name", A_C.name)[1]
    assert json.loads(shown) == [{
        "name": A_C.name, "relation": "contains", "words": "net.forward calls relu", "support": 5,
        "against": 0, "claim": {"type": "contains", "parent": "net.forward", "child": "relu"},
        "when": {"any_of": [[]], "inverted": False},
    }]  # fmt: skip


def test_merge(file: Path, command: Command) -> None:
    source = Source(program="more.py", steps=10, calls={"net.forward": 3})
    other = Invariants(header=Header(torch="2.9.0", sources=(source,)), invariants=(A_B,))
    write_invariants(Path("g.inv"), other)
    assert command("invariants", "merge", file, "g.inv", "-o", "m.inv") == (
        0,
        f"dropped [{A_C.name}] net.forward calls relu: "
        "g.inv calls net.forward 3 times and does not have it\n"
        "2 invariants of 1,010 steps of 2 runs in m.inv\n",
        "",
    )
    assert [one.support for one in read_invariants(Path("m.inv")).invariants] == [2480, 9]


def test_prune(file: Path, command: Command) -> None:
    chosen = ("--drop", A_B.name, "--fewest", 6)
    assert command("invariants", "prune", file, *chosen, "-o", "p.inv") == (
        0, "took out 2; 1 invariant of 1,000 steps in p.inv\n", ""
    )  # fmt: skip
    assert read_invariants(Path("p.inv")).invariants == (D_E,)
    assert read_invariants(file).invariants == (A_B, D_E, A_C)


def test_convert_to_traincheck_and_back(file: Path, command: Command) -> None:
    for_all = Contains("torch.nn.Module.forward", "torch.nn.functional.relu")
    known = One(claim=Contains("torch.nn.functional.gelu", "torch.equal"), support=4)
    header = read_invariants(file).header
    mixed = Invariants(header=header, invariants=(known, One(claim=for_all)))
    write_invariants(file, mixed)
    code, shown, _ = command("invariants", "convert", file, "theirs.json", "--to", "traincheck")
    left_out, last = shown.splitlines()
    assert (code, last) == (0, "wrote 1 invariant to theirs.json")
    assert left_out.startswith(
        f"left out [{One(claim=for_all).name}] {for_all.words()}: TrainCheck"
    )
    assert command("invariants", "convert", "theirs.json", "ours.inv", "--to", "remora") == (
        0, "wrote 1 invariant to ours.inv\n", ""
    )  # fmt: skip
    assert read_invariants(Path("ours.inv")).invariants == (known,)


def test_what_cannot_be_taken_over_is_said_by_line(file: Path, command: Command) -> None:
    theirs = [
        line("APIContainRelation", api("app.update"), api("torch.equal")),
        line("FunctionTelepathyRelation", api("app.update"), api("torch.equal")),
    ]
    Path("theirs.json").write_text("".join(json.dumps(one) + "\n" for one in theirs))
    code, shown, _ = command("invariants", "convert", "theirs.json", "ours.inv", "--to", "remora")
    assert code == 0
    first, last = shown.splitlines()
    assert first.startswith("line 2 not taken over: FunctionTelepathyRelation told: Remora has no ")
    assert last == "wrote 1 invariant to ours.inv"
    assert command("invariants", "convert", "theirs.json", "x.inv", "--to", "yaml")[0] == 2


@pytest.mark.slow
@pytest.mark.parametrize("option", ["--learn", "--record"])
def test_of_a_function_that_is_named_something_is_learned(tmp_path: Path, option: str) -> None:
    """GIVEN a function of the program's own WHEN it is named THEN its bound is learned."""
    (tmp_path / "s.py").write_text(
        "import torch\ndef draw(n, max_rows): return torch.zeros(1, min(n, max_rows))\n"
        "for n in range(4, 8): draw(n, 5)\n"
    )
    ridden = run(tmp_path, "run", option, "a", "--watch", "__main__.draw", "s.py")
    if option == "--record":
        run(tmp_path, "learn", "-o", "b", "a")
    shown = run(tmp_path, "invariants", "show", "b" if option == "--record" else "a").stdout

    assert "observed" not in ridden.stderr
    assert "the last size of result of __main__.draw is at most max_rows" in shown
