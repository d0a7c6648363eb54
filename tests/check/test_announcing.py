"""What is said of what is found: one thing for one cause, and never more than can be read."""

from __future__ import annotations

from remora.check.announcing import MOST_IN_RUN, MOST_IN_STEP, Announcer
from remora.check.calls import Call
from remora.check.checker import Finding
from remora.check.findings import Findings
from remora.check.invariants import Invariant
from remora.check.relations.changes import Changes
from remora.check.relations.contains import Contains
from remora.check.relations.contract import Claim
from remora.check.relations.cover import Cover
from remora.check.relations.lead import Lead


class Screen:
    """Findings and what is said of them."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.announcer = Announcer(self.lines.append)
        self.findings = Findings(self.announcer.found, where=lambda: "train.py:7")

    def find(self, claim: Claim, function: str, step: int = 0) -> str:
        invariant = Invariant(claim=claim)  # type: ignore[arg-type]
        call = Call(function, 0, 0, None, step)
        self.findings.add(Finding(invariant, step, "not so", call))
        return invariant.name

    def whole(self) -> int:
        return sum("an invariant does not hold" in line for line in self.lines)


def test_what_misses_one_function_is_told_once_and_the_rest_named() -> None:
    screen = Screen()
    first = screen.find(Cover("zero_grad", "forward"), "forward")
    others = [
        screen.find(Cover("zero_grad", "backward"), "backward"),
        screen.find(Lead("backward", "zero_grad"), "backward"),
        screen.find(Contains("step", "zero_grad"), "step"),
        screen.find(Changes("step", "parameter", "changed"), "step"),
    ]
    screen.announcer.step_ended()

    assert screen.whole() == 1
    assert screen.lines[-1] == (
        f"  [{first}] and 4 more invariants of the same cause: {', '.join(others)}"
    )
    assert {one.group for one in screen.findings.violations} == {first}


def test_what_is_missed_in_one_step_after_another_is_told_once() -> None:
    screen = Screen()
    first = screen.find(Cover("zero_grad", "forward"), "forward", step=1)
    screen.announcer.step_ended()
    later = screen.find(Lead("backward", "zero_grad"), "backward", step=2)
    screen.announcer.step_ended()

    assert screen.whole() == 1
    assert screen.lines[-1] == f"  [{first}] and 1 more invariant of the same cause: {later}"


def test_what_a_call_does_wrong_is_of_one_step() -> None:
    screen = Screen()
    screen.find(Changes("step", "parameter", "changed"), "step", step=1)
    screen.announcer.step_ended()
    later = screen.find(Changes("step", "parameter", "finite"), "step", step=2)
    screen.announcer.step_ended()

    assert screen.whole() == 2
    assert screen.findings.violations[-1].group == later


def test_in_a_job_of_several_ranks_the_first_is_named_too() -> None:
    lines: list[str] = []
    announcer = Announcer(lines.append, names_rank=True)
    invariant = Invariant(claim=Cover("zero_grad", "forward"))
    findings = Findings(announcer.found, where=lambda: None)
    findings.add(Finding(invariant, 3, "not so", None))

    assert lines[0].startswith("step 3 on rank 0: ")


def test_another_cause_is_told_whole_as_well() -> None:
    screen = Screen()
    screen.find(Cover("zero_grad", "forward"), "forward")
    screen.find(Cover("clip", "forward"), "forward")

    assert screen.whole() == 2


def test_a_step_in_which_all_is_wrong_takes_a_few_lines() -> None:
    screen = Screen()
    for number in range(200):
        screen.find(Cover(f"f{number}", f"g{number}"), f"g{number}")
    screen.announcer.step_ended()

    assert screen.whole() == MOST_IN_STEP
    assert len(screen.lines) == MOST_IN_STEP + 1
    assert f"and {200 - MOST_IN_STEP} more invariants in the same step: " in screen.lines[-1]
    assert screen.lines[-1].endswith(", …")
    assert len(screen.findings.violations) == 200


def test_a_run_in_which_all_is_wrong_is_summed_up() -> None:
    screen = Screen()
    for step in range(300):
        screen.find(Cover(f"f{step}", f"g{step}"), f"g{step}", step=step)
        screen.announcer.step_ended()
    said = len(screen.lines)
    screen.announcer.ended()

    assert screen.whole() == MOST_IN_RUN
    assert said == MOST_IN_RUN + 1
    assert screen.lines[-1] == (
        f"{300 - MOST_IN_RUN} more did not hold, told only in --report: {300 - MOST_IN_RUN} cover"
    )
