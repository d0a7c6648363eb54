"""``--every`` of `remora run`: whose it is, and what is said where that cannot be told."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.cli.commands import Command

from remora.cli.riding.every import Intervals, intervals
from remora.core.errors import BadValue


@pytest.mark.parametrize(("given", "checks", "checkpoints", "found"), [
    ((None, None, None), True, True, Intervals("1", "auto")),
    (("10", None, None), True, False, Intervals("10", "auto")),
    (("10", None, None), False, True, Intervals("1", "10")),
    ((None, "5", "50"), True, True, Intervals("5", "50")),
])  # fmt: skip
def test_whose_it_is(
    given: tuple[str | None, ...], checks: bool, checkpoints: bool, found: Intervals
) -> None:
    assert intervals(*given, checks=checks, checkpoints=checkpoints) == found


@pytest.mark.parametrize(("given", "checks", "checkpoints", "said"), [
    (("10", None, None), True, True, "write --check-every 10 or --checkpoint-every 10"),
    (("10", None, None), False, False, "add --check FILE or --checkpoint DIR"),
    (("10", "5", None), True, False, "give one"),
    ((None, "5", None), False, True, "nothing is checked; add --check FILE"),
    ((None, None, "5"), True, False, "add --checkpoint DIR"),
])  # fmt: skip
def test_what_cannot_be_told(
    given: tuple[str | None, ...], checks: bool, checkpoints: bool, said: str
) -> None:
    with pytest.raises(BadValue, match=said):
        intervals(*given, checks=checks, checkpoints=checkpoints)


@pytest.mark.parametrize(("options", "said"), [
    (("--check", "a.inv", "--check", "b.inv"),
     "--check a.inv --check b.inv: give one file; `remora invariants merge` brings several "
     "together"),
    (("--check", "a.inv", "--every", "auto"),
     "--every auto: to check, choose a number of steps from 1, such as 10"),
    (("--check", "a.inv", "--check-every", "0"),
     "--every 0: to check, choose a number of steps from 1, such as 10"),
    (("--checkpoint", "a", "--every", "x"), "--every x: choose a number of steps from 1, or auto"),
    (("--report", "a.json"), "--report a.json: nothing is checked; add --check FILE"),
    (("--overwrite",), "--overwrite: nothing is recorded; add --record DIR"),
    (("--check", "a.inv"),
     "a.inv cannot be read: No such file or directory; learn invariants with "
     "`remora run --learn a.inv script.py`"),
])  # fmt: skip
def test_mistakes_start_nothing(
    options: tuple[str, ...], said: str, tmp_path: Path, command: Command,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    assert command("run", *options, "train.py") == (2, "", f"remora: {said}\n")
    assert list(tmp_path.iterdir()) == []
