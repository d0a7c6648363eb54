"""The page of a check: every invariant on it, and nothing taken for markup."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from remora.check.page import page
from remora.check.report import CheckReport, NotChecked, Violation
from remora.check.report_files import check_report_name
from remora.core.errors import BadValue

FOUND = Violation(
    invariant="aaaa1111", relation="lead", expected="f is followed by g", seen="no g <b>at all</b>",
    step=3, where="train.py:7", count=4, last_step=9,
)  # fmt: skip
WORDS = {
    "aaaa1111": ("lead", "f is followed by g"),
    "bbbb2222": ("cover", "g is called only after f"),
    "cccc3333": ("contains", "f calls <lambda>"),
}


def report(*violations: Violation) -> CheckReport:
    violated = {one.invariant for one in violations}
    triggered = ["aaaa1111", "bbbb2222"]
    return CheckReport(
        program="train.py", steps=10, invariants=3, violations=list(violations),
        triggered=triggered, passed=[name for name in triggered if name not in violated],
        not_triggered=["cccc3333"], not_watched={"torch.gone": "unknown function"},
        not_checked=[NotChecked(invariant="dddd4444", expected="torch.gone <calls> f",
                                reason="unknown function 'torch.gone'")],
    )  # fmt: skip


def test_what_did_not_hold_comes_first_with_where_and_how_often() -> None:
    text = page(report(FOUND), WORDS)

    assert "1 of 2 invariants that came up did not hold" in text
    assert text.index("What did not hold") < text.index("Every invariant")
    for said in ("Step 3", "train.py:7", "4 times, last in step 9", "torch.gone"):
        assert said in text


def test_every_invariant_is_there_with_its_state() -> None:
    text = page(report(FOUND), WORDS)
    rows = [line for line in text.splitlines() if line.startswith("<tr><td><code>")]
    states = {name: [row for row in rows if name in row][-1] for name in WORDS}

    assert ">violated<" in states["aaaa1111"]
    assert ">passed<" in states["bbbb2222"]
    assert ">not triggered<" in states["cccc3333"]


def test_what_has_one_cause_lies_together() -> None:
    same = msgspec.structs.replace(FOUND, invariant="bbbb2222", group="aaaa1111")
    first = msgspec.structs.replace(FOUND, group="aaaa1111")
    text = page(report(first, same), WORDS)

    assert text.count("<article>") == 1
    assert "1 more invariant of the same cause" in text
    assert text.index("aaaa1111</code></h3>") < text.index("<details>")
    assert text.index("<details>") < text.index("bbbb2222</code></h3>")


def test_what_programs_say_is_text() -> None:
    text = page(report(FOUND), WORDS)

    assert "<b>at all" not in text
    assert "<lambda>" not in text
    assert "<calls>" not in text


def test_a_run_that_is_well_says_so() -> None:
    text = page(report(), WORDS)

    assert "All 2 invariants that came up held" in text
    assert "What did not hold" not in text


def test_a_files_name_says_its_kind(tmp_path: Path) -> None:
    for name in ("found.html", "found.json"):
        assert check_report_name(tmp_path / name) == tmp_path / name
    with pytest.raises(BadValue, match=r"\.json or \.html"):
        check_report_name(tmp_path / "found.txt")
