"""Results folders: whole or refused, damaged files named, versions checked."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.lab.builders import make_plan, make_trial

from remora.core.errors import ResultsUnusable
from remora.lab.folder import Folder


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    plan = make_plan()
    folder = Folder.create(tmp_path / "results", plan)
    for spec in plan.trials:
        folder.write_trial(make_trial(spec))
    return folder


def test_what_is_written_reads_back_equal(folder: Folder) -> None:
    plan = make_plan()
    assert folder.plan() == plan
    trials, warnings = folder.trials()
    assert trials == [make_trial(spec) for spec in plan.trials]
    assert warnings == []


def test_an_existing_results_folder_is_not_overwritten(folder: Folder) -> None:
    with pytest.raises(ResultsUnusable, match="already holds results; continue them with --resume"):
        Folder.create(folder.path, make_plan())


def test_a_folder_with_other_things_in_it_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("precious")
    with pytest.raises(ResultsUnusable, match="is not empty; choose another --out"):
        Folder.create(tmp_path, make_plan())
    assert (tmp_path / "mine.txt").read_text() == "precious"


def test_a_file_in_the_way_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ResultsUnusable, match="cannot write results"):
        Folder.create(tmp_path / "file" / "results", make_plan())


def test_an_unwritable_place_is_refused() -> None:
    with pytest.raises(ResultsUnusable, match="cannot write results to /proc/results"):
        Folder.create(Path("/proc/results"), make_plan())


@pytest.mark.parametrize("name", ["absent", "empty"])
def test_opening_what_is_no_results_folder(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ResultsUnusable, match=r"no results folder|not a results folder"):
        Folder.open(tmp_path / name)


def test_a_damaged_trial_is_named_and_the_others_stand(folder: Folder) -> None:
    first = sorted(folder.trials_path.iterdir())[0]
    first.write_bytes(first.read_bytes()[:100])
    trials, warnings = folder.trials()
    assert len(trials) == len(make_plan().trials) - 1
    assert len(warnings) == 1
    assert str(first) in warnings[0]
    assert "is damaged" in warnings[0]


def test_results_of_another_version_are_refused(folder: Folder) -> None:
    path = folder.path / "plan.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"version": 99}))
    with pytest.raises(ResultsUnusable, match="is of results version 99"):
        folder.plan()


def test_unknown_keys_are_refused_by_name(folder: Folder) -> None:
    path = folder.path / "plan.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"colour": "blue"}))
    with pytest.raises(ResultsUnusable, match="colour"):
        folder.plan()


def test_leftovers_of_a_killed_writer_are_not_read(folder: Folder) -> None:
    (folder.trials_path / ".b00-00-x.json.123.tmp").write_text("half")
    _, warnings = folder.trials()
    assert warnings == []


def test_a_lock_dies_with_its_holder(folder: Folder) -> None:
    code = (
        "import sys, time; from pathlib import Path; from remora.lab.folder import Folder\n"
        "with Folder(Path(sys.argv[1])).locked(): print('held', flush=True); time.sleep(600)"
    )
    command = [sys.executable, "-c", code, str(folder.path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(ResultsUnusable, match="another process"), folder.locked():
            pass
        holder.kill()
        holder.wait()
        with folder.locked():
            pass


def test_a_full_disk_is_told_in_one_line(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    before = folder.trials()
    with pytest.raises(ResultsUnusable, match=r"No space left on device.*--resume"):
        folder.write_trial(make_trial(make_plan().trials[0], 99.0))
    assert folder.trials() == before


def test_a_thousand_trials_load_in_under_a_second(tmp_path: Path) -> None:
    plan = make_plan(blocks=334)
    folder = Folder.create(tmp_path / "many", plan)
    for spec in plan.trials[:1000]:
        path = folder.trial_path(spec.id)
        path.write_bytes(__import__("msgspec").json.encode(make_trial(spec, steps=100)))
    took = []
    for _ in range(3):  # the best of three: other work on the machine is not what is asked
        began = time.perf_counter()
        trials, _ = folder.trials()
        took.append(time.perf_counter() - began)
        assert len(trials) == 1000
    assert min(took) < 1.0
