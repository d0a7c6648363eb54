"""What the screen says, compared whole: progress, verdicts, the list, the doctor."""

from __future__ import annotations

from io import StringIO
from pathlib import Path

import msgspec
import pytest
from rich.console import Console
from tests.lab.builders import make_plan, make_trial

from remora.cli import main
from remora.cli.progress import Screen
from remora.cli.report import print_summary
from remora.lab.analysis import analyse
from remora.lab.environment import capture
from remora.lab.events import GivenUp, PilotRead, Planned, Stopped, TrialEnded, TrialStarted
from remora.lab.report import Rendered
from remora.lab.results import EnvironmentPair, Pilot
from remora.lab.worker import failed


def console(width: int = 100) -> Console:
    return Console(file=StringIO(), width=width, highlight=False, markup=False)


def text(shown: Console) -> str:
    assert isinstance(shown.file, StringIO)
    return shown.file.getvalue()


def test_a_run_tells_its_story_where_there_is_no_terminal(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("remora.cli.progress.time.monotonic", lambda: 0.0)
    plan = make_plan(blocks=2)
    shown = console()
    with Screen(Path("results"), 290.0, shown) as screen:
        screen.on_event(Planned(plan, 0))
        for spec in plan.trials[:3]:
            screen.on_event(TrialStarted(spec))
            screen.on_event(TrialEnded(make_trial(spec), 2.0))
        pilot = Pilot(blocks=3, sd_log_ratio=0.021, mde=0.05, power=0.8)
        screen.on_event(PilotRead(pilot))
        spec = plan.trials[3]
        screen.on_event(TrialEnded(failed(spec, "killed", "the process died", "logs/x.log"), 2.0))
        screen.on_event(GivenUp(spec.arm.name, 2))
        screen.on_event(Stopped("the time budget is spent"))
    assert text(shown).splitlines() == [
        "quick: 3 arms × up to 2 blocks, within 4 min 50 s; results in results",
        "block 1 done after 0.0 µs, about 6.0 s left",
        "pilot: over 3 blocks native against native scatters by at most 2.1 % (sd); "
        "the blocks planned detect",
        "5.0 % with 80 % power",
        f"failed: {spec.arm.name} in block 2: the process died (log: results/logs/x.log)",
        f"giving up on {spec.arm.name}: it failed 2 times; run it alone with",
        f"  remora bench quick --resume results --only '{spec.arm.name}'",
        "stopping here: the time budget is spent",
    ]


def test_a_wanted_effect_is_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("remora.cli.progress.time.monotonic", lambda: 0.0)
    shown = console(200)
    screen = Screen(Path("r"), None, shown)
    pilot = Pilot(blocks=3, sd_log_ratio=0.02, mde=0.05, power=0.8, wanted_mde=0.02)
    screen.on_event(PilotRead(pilot))
    screen.on_event(PilotRead(msgspec.structs.replace(pilot, blocks_for_wanted=18)))
    first, second = text(shown).splitlines()
    assert first.endswith("; 2 % is out of reach on this machine as it is now")
    assert second.endswith("; 2 % needs 18 blocks")


def test_blocks_that_tell_nothing_are_not_given_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("remora.cli.progress.time.monotonic", lambda: 0.0)
    shown = console(200)
    pilot = Pilot(blocks=2, sd_log_ratio=0.8, mde=4e15, power=0.8)
    Screen(Path("r"), None, shown).on_event(PilotRead(pilot))
    assert text(shown).strip().endswith("detect not even a tenfold cost with 80 % power")


def test_the_summary_gives_verdicts_warnings_and_the_address(tmp_path: Path) -> None:
    plan = make_plan(systems=("idle", "torch-save"), blocks=4)
    scale = {"torch-save": 75.0}
    trials = [make_trial(s, scale.get(s.arm.label, 50.0), noise=0.002) for s in plan.trials]
    analysis = analyse(plan, EnvironmentPair(before=capture(1), after=capture(1)), trials)
    page = tmp_path / "index.html"
    rendered = Rendered(tmp_path, page, page, page, page, page, page, ())
    shown = console(140)
    print_summary(analysis, rendered, shown)
    lines = text(shown).splitlines()
    assert lines[0].startswith("vgg16-train  (noise floor 0.")
    assert any("idle" in line and "no cost within ±5 %" in line for line in lines)
    assert any("torch-save" in line and "costs" in line for line in lines)
    assert any(line.startswith("note: 4 blocks are few") for line in lines)
    assert lines[-1] == f"report: {page.as_uri()}"


def test_the_list_shows_all_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exited:
        main(["list"])
    assert exited.value.code == 0
    shown = capsys.readouterr().out
    for name in (
        "quick",
        "validate",
        "no-streaming",
        "vgg16-train",
        "gpt2-decode",
        "settrace",
        "dcp-async",
    ):
        assert name in shown


def test_the_doctor_tells_the_machine_and_what_is_missing(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as exited:
        main(["doctor", "--no-probe"])
    assert exited.value.code == 0
    shown = capsys.readouterr().out
    for word in ("cpu", "torch", "load", "transformers", "present", "pip install 'remora[lab]'"):
        assert word in shown


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exited:
        main(["--version"])
    assert exited.value.code == 0
    assert capsys.readouterr().out.startswith("remora 0.")
