"""The command line on copies: looking at them, and bringing one into a folder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from remora.checkpoint.checkpointer import Checkpointer
from remora.cli.app import main


@dataclass(frozen=True)
class Done:
    returncode: int | str | None
    stdout: str
    stderr: str


@pytest.fixture
def run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Done]:
    """``remora ARGUMENTS`` in ``tmp_path``, in this process: torch is here already."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")

    def done(*arguments: str) -> Done:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        return Done(ended.value.code, *capsys.readouterr())

    return done


@pytest.fixture
def url(tmp_path: Path) -> str:
    """Copies of steps 10 and 20."""
    place = (tmp_path / "copies").as_uri()
    with Checkpointer(tmp_path / "a", second=place) as saver:
        saver.track(model=torch.nn.Linear(3, 2))
        for step in (10, 20):
            saver.save(step)
            saver.wait()
            while saver.elsewhere.counters[place].last_step != step:
                saver.wait()
    return place


def test_copies_are_looked_at_like_a_folder(
    run: Callable[..., Done], url: str, tmp_path: Path
) -> None:
    listed = run("checkpoint", "ls", url)
    assert listed.returncode == 0
    assert "10" in listed.stdout
    assert "20" in listed.stdout
    verified = run("checkpoint", "verify", url)
    assert (verified.returncode, verified.stdout.count("whole")) == (0, 2)
    assert "model.weight" in run("checkpoint", "show", url, "--step", "10").stdout


def test_a_damaged_copy_is_found(run: Callable[..., Done], url: str, tmp_path: Path) -> None:
    newest = sorted((tmp_path / "copies").glob("*.safetensors"))[-1]
    data = bytearray(newest.read_bytes())
    data[9000] ^= 1
    newest.write_bytes(data)
    verified = run("checkpoint", "verify", url)
    assert verified.returncode == 1
    assert "step 20: " in verified.stdout
    assert "damaged" in verified.stdout
    assert "step 10: whole" in verified.stdout


def test_a_copy_is_brought_into_a_folder_that_goes_on_from_it(
    run: Callable[..., Done], url: str, tmp_path: Path
) -> None:
    done = run("checkpoint", "restore", "b", "--from", url)
    assert done.stdout == "brought step 20 into b; the next run goes on from there\n"
    older = run("checkpoint", "restore", "b", "--from", url, "--step", "10")
    assert "brought step 10 into b" in older.stdout
    model = torch.nn.Linear(3, 2)
    with Checkpointer(tmp_path / "b", second=url) as saver:
        assert saver.restore(model=model) == 10
        saver.save(11)
    assert saver.elsewhere.counters[url].last_step == 11  # it is of the same run


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("restore", "b"), "say which checkpoint: --step N, or --from URL"),
        (("restore", "b", "--from", "{url}", "--step", "5"), "no checkpoint of step 5; there are"),
        (("restore", "b", "--from", "peer://127.0.0.1:1/x"), "cannot be reached"),
        (("ls", "nosuch://x"), "choose a URL such as s3://bucket/run"),
        (("ls", "file:///nowhere/at/all"), "no checkpoint has been committed here yet"),
    ],
    ids=["neither", "no such step", "no answer", "no such kind", "nothing there"],
)
def test_a_mistake_is_said_in_one_line(
    run: Callable[..., Done], url: str, arguments: tuple[str, ...], message: str, tmp_path: Path
) -> None:
    done = run("checkpoint", *(each.format(url=url) for each in arguments))
    assert message in done.stderr + done.stdout
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "b").exists()
