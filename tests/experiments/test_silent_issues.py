"""The silent issues: what counts as a catch, the table, and every case run through."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from remora.check.report import Violation
from remora.core.errors import UnknownName
from remora.experiments.silent_issues.__main__ import main
from remora.experiments.silent_issues.cases import CASES, Case, chosen, others
from remora.experiments.silent_issues.gallery import AGAIN, PROGRAMS, Gallery
from remora.experiments.silent_issues.outcome import Outcome, judged, without_verdict
from remora.experiments.silent_issues.rides import RideFailed, Rides
from remora.experiments.silent_issues.table import COLUMNS, summary, table
from remora.tap.job import Job
from remora.tap.service import Service

PAGE = Path(__file__).parents[2] / "docs" / "silent-issues.md"
CASE = Case(
    issue="x-1", program="x", wrong="no zero_grad", published="Cover", relations=("cover",),
    about="zero_grad", from_step=2,
)  # fmt: skip


def violation(step: int, *, name: str = "a", relation: str = "cover", **more: Any) -> Violation:
    """Of an invariant that speaks of the fault, unless told otherwise."""
    more = {"expected": "step only after zero_grad", "seen": "none", "where": "t.py:3", **more}
    return Violation(invariant=name, relation=relation, step=step, last_step=step, **more)


# ---------------------------------------------------------------- what counts


def test_a_catch_is_the_first_violation_that_speaks_of_the_fault() -> None:
    """GIVEN several violations after the fault THEN the first that is about it is told."""
    faulty = [
        violation(2, name="b", relation="lead"),
        violation(4),
        violation(3, name="c", expected="forward only after zero_grad"),
    ]
    found = judged(CASE, faulty, [], invariants=9)

    assert (found.caught, found.step, found.relation, found.on_time) == (True, 3, "cover", False)
    assert found.invariant == "forward only after zero_grad"
    assert (found.invariants, found.false_alarms, len(found.others)) == (9, [], 2)


@pytest.mark.parametrize(
    "accident", [{"relation": "lead"}, {"expected": "a dtype is what it was"}, {"step": 1}]
)
def test_an_accident_is_no_catch(accident: dict[str, Any]) -> None:
    """GIVEN another relation, another subject, or a step before the fault THEN it is a miss."""
    found = judged(CASE, [violation(**({"step": 2} | accident))], [], invariants=1)

    assert (found.caught, found.step, found.relation) == (False, None, None)


def test_an_alarm_before_the_fault_is_a_false_one() -> None:
    assert judged(CASE, [violation(1, expected="early")], [], invariants=1).false_alarms == [
        "early"
    ]


def test_what_the_healthy_twin_violates_too_is_a_false_alarm_and_no_catch() -> None:
    found = judged(CASE, [violation(2)], [violation(0)], invariants=1)

    assert (found.caught, found.false_alarms) == (False, ["step only after zero_grad"])


# ---------------------------------------------------------------- cases


def test_every_program_is_a_case_and_every_case_a_program() -> None:
    programs = {one.stem for one in PROGRAMS.glob("*.py")} - {"__init__", "common"}

    assert {case.program for case in CASES} == programs
    assert len({case.issue for case in CASES}) == len(CASES)
    for case in CASES:
        said = (PROGRAMS / f"{case.program}.py").read_text()
        assert said.startswith(f'"""{case.issue}: '), case.program


def test_cases_are_chosen_by_program_or_issue() -> None:
    assert [one.program for one in chosen(["no_zero_grad", "pytorch-forum-84911"])] == [
        "all_frozen", "no_zero_grad",
    ]  # fmt: skip
    assert chosen([]) == list(CASES)
    with pytest.raises(UnknownName, match="did you mean 'no_zero_grad'"):
        chosen(["no_zero_gradd"])


def test_the_others_that_are_learned_from_are_never_the_case_itself() -> None:
    for case in CASES:
        assert len(others(case)) == 2
        assert case not in others(case)


def test_a_name_that_is_none_is_said_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--program", "nothing"]) == 2
    assert capsys.readouterr().err.startswith("error: unknown program 'nothing'; choose from: ")


# ---------------------------------------------------------------- the table


def test_the_table_tells_caught_missed_and_no_verdict_apart() -> None:
    caught = judged(CASE, [violation(2, expected="after zero_grad | x")], [], invariants=5)
    missed = judged(CASE, [], [violation(0)], invariants=5)
    broken = without_verdict(CASE, "exit code 1: no such file")

    head, _, *rows = table([caught, missed, broken]).splitlines()
    assert head == f"| {' | '.join(COLUMNS)} |"
    assert rows == [
        "| x-1 | no zero_grad | yes | 2 (2) | cover | Cover | after zero_grad \\| x | 5 | 0 | 0 |",
        "| x-1 | no zero_grad | **missed** | – (2) | – | Cover | – | 5 | 1 | 0 |",
        "| x-1 | no zero_grad | no verdict: exit code 1: no such file | – (2) | – | Cover | – "
        "| 0 | 0 | 0 |",
    ]
    assert summary([caught, missed, broken]) == (
        "1 of 3 caught, 1 in the step of the fault; 1 false alarms of 10 invariants"
    )


def test_the_page_lists_every_case() -> None:
    rows = [line.split(" | ") for line in PAGE.read_text().splitlines() if line.startswith("| ")]
    issues = [row[0].removeprefix("| ") for row in rows if len(row) > 3]

    assert issues[2:] == [case.issue for case in CASES]


# ---------------------------------------------------------------- processes


class Nothing(Service):
    name = "nothing"

    def attach(self, job: Job) -> None:
        """Nothing is watched."""

    def detach(self) -> None:
        """Nothing was."""


def nothing(rank: int) -> Service:
    return Nothing()


@pytest.mark.slow
def test_a_program_that_takes_too_long_is_killed_with_its_children(tmp_path: Path) -> None:
    """GIVEN a program with a child that ignores SIGTERM WHEN time is up THEN both are gone."""
    script = tmp_path / "s.py"
    script.write_text(
        "import subprocess\np = subprocess.Popen(['sh', '-c', 'trap \"\" TERM; sleep 60'])\n"
        f"open({str(tmp_path / 'pid')!r}, 'w').write(str(p.pid))\np.wait()\n"
    )
    with pytest.raises(RideFailed, match="it takes more than"):
        Rides(timeout_s=4).ride([str(script)], nothing, tmp_path / "log")

    assert is_gone(int((tmp_path / "pid").read_text()))


def is_gone(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return True
    return state == "Z"


@pytest.mark.slow
def test_a_program_that_fails_is_told_by_its_last_line(tmp_path: Path) -> None:
    script = tmp_path / "s.py"
    script.write_text("import os, time\nif os.environ['RANK'] == '0': raise SystemExit('no data')\n"
                      "time.sleep(60)\n")  # fmt: skip
    with pytest.raises(RideFailed, match="exit code 1: no data"):
        Rides().ride([str(script)], nothing, tmp_path / "log", ranks=2)


# ---------------------------------------------------------------- run through


def test_one_case_from_end_to_end(tmp_path: Path) -> None:
    """GIVEN one healthy run WHEN zero_grad is lost THEN it is caught in the first step."""
    [case] = chosen(["no_zero_grad"])
    [found] = Gallery(tmp_path, seeds=(0,), with_others=False).run([case])

    assert (found.trouble, found.caught, found.step, found.relation) == (None, True, 0, "cover")
    assert "zero_grad" in str(found.invariant)
    assert str(found.where).startswith(str(PROGRAMS / "no_zero_grad.py"))
    assert found.false_alarms == []
    kept = msgspec.json.decode(
        (tmp_path / case.program / "outcome.json").read_bytes(), type=Outcome
    )
    assert kept == found


@pytest.mark.slow
def test_a_catch_is_no_chance(tmp_path: Path) -> None:
    """GIVEN one healthy run WHEN seed and size are others THEN the fault is caught all the same."""
    gallery = Gallery(tmp_path, seeds=(0,), with_others=False, again=True)
    [found] = gallery.run(chosen(["no_zero_grad"]))

    assert found.again == [True] * len(AGAIN)
    assert summary([found]).endswith(f"run again otherwise: {len(AGAIN)} of {len(AGAIN)} caught")


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.program)
def test_every_case_is_caught_in_its_step(
    case: Case, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """GIVEN healthy runs of it and others THEN the fault is found at once, the twin has none."""
    found = Gallery(tmp_path_factory.getbasetemp() / "silent").run_case(case)

    assert found.trouble is None
    assert (found.caught, found.step) == (True, case.from_step)
    assert found.false_alarms == []
    if case.ranks == 1:  # what differs between ranks shows at the end of a step, at no line
        assert str(found.where).startswith(str(PROGRAMS / f"{case.program}.py"))
