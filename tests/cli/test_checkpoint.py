"""``remora checkpoint``: what each verb prints, and what becomes of every mistake."""

from __future__ import annotations

import errno
import io
import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.distributed.checkpoint as dcp
from safetensors.torch import load_file

from remora.checkpoint.checkpointer import Checkpointer
from remora.checkpoint.storage.contract import Lock
from remora.checkpoint.storage.local import LocalStorage
from remora.cli import main

Command = Callable[..., tuple[int, str, str]]
_WHEN = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d")


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    """Run ``remora checkpoint …`` in this process: exit code, output, errors."""
    monkeypatch.setenv("COLUMNS", "90")

    def run(*arguments: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as exited:
            main(["checkpoint", *map(str, arguments)])
        shown = capsys.readouterr()
        assert isinstance(exited.value.code, int)
        return exited.value.code, shown.out, shown.err

    return run


def model(fill: float) -> torch.nn.Linear:
    made = torch.nn.Linear(3, 2)
    torch.nn.init.constant_(made.weight, fill)
    torch.nn.init.zeros_(made.bias)
    return made


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Checkpoints of steps 8, 10 and 12, and of 4, which was archived."""
    path = tmp_path / "run"
    job = model(0)
    with Checkpointer(path, every=2, keep=3, keep_every=4, when_slow="block") as saver:
        saver.track(model=job, progress={"loss": 0.5})
        for step in range(12):
            torch.nn.init.constant_(job.weight, float(step + 1))
            saver.step(step)
            saver.wait()
    return path


def damage(file: Path, at: int) -> None:
    with file.open("r+b") as opened:
        opened.seek(at)
        byte = opened.read(1)[0]
        opened.seek(at)
        opened.write(bytes([byte ^ 1]))


def weights_begin(file: Path) -> int:
    """Where in ``file`` the first tensor's bytes are."""
    length = int.from_bytes(file.read_bytes()[:8], "little")
    header = file.read_bytes()[8 : 8 + length]
    found = re.search(rb'"model.weight":[^}]*"data_offsets":\[(\d+),', header)
    assert found is not None
    return 8 + length + int(found[1])


def slot_of(folder: Path, weight: float) -> Path:
    """The slot file that holds the checkpoint whose weights are all ``weight``."""
    for file in folder.glob("slot-*.safetensors"):
        tensors = load_file(file)
        if "model.weight" in tensors and float(tensors["model.weight"][0, 0]) == weight:
            return file
    raise AssertionError(f"no slot holds {weight}")


def steps_listed(command: Command, folder: Path) -> list[int]:
    return [int(found) for found in re.findall(r"│ (\d+) +│ \d{4}-", command("ls", folder)[1])]


# ---------------------------------------------------------------- looking


def test_ls_lists_the_newest_first(command: Command, folder: Path) -> None:
    code, out, err = command("ls", folder)
    assert (code, err) == (0, "")
    assert _WHEN.sub("1970-01-01 00:00:00", out) == (
        "┏━━━━━━┳━━━━━━━━━━━━━━━━━━━━━┳━━━━━━━━━━┳━━━━━━━┳━━━━━━━━━━━┓\n"
        "┃ step ┃ committed (UTC)     ┃ size     ┃ files ┃ kept      ┃\n"
        "┡━━━━━━╇━━━━━━━━━━━━━━━━━━━━━╇━━━━━━━━━━╇━━━━━━━╇━━━━━━━━━━━┩\n"
        "│ 12   │ 1970-01-01 00:00:00 │ 77.8 KiB │ 1     │ while new │\n"
        "│ 10   │ 1970-01-01 00:00:00 │ 77.8 KiB │ 1     │ while new │\n"
        "│ 8    │ 1970-01-01 00:00:00 │ 77.8 KiB │ 1     │ while new │\n"
        "│ 4    │ 1970-01-01 00:00:00 │ 77.8 KiB │ 1     │ for good  │\n"
        "└──────┴─────────────────────┴──────────┴───────┴───────────┘\n"
    )


def test_a_folder_without_a_checkpoint_says_so(command: Command, tmp_path: Path) -> None:
    Checkpointer(tmp_path / "run").close()
    nothing = "no checkpoint has been committed here yet"
    for verb in ("ls", "verify"):
        assert command(verb, tmp_path / "run") == (0, f"{nothing}\n", "")
    assert command("show", tmp_path / "run") == (2, "", f"remora: {nothing}\n")


def test_verify_reads_them_all_or_one(command: Command, folder: Path) -> None:
    code, out, err = command("verify", folder)
    assert (code, err) == (0, "")
    assert out == "".join(f"step {step}: whole (77.8 KiB)\n" for step in (12, 10, 8, 4))
    assert command("verify", folder, "--step", "8") == (0, "step 8: whole (77.8 KiB)\n", "")


def test_verify_names_what_is_damaged(command: Command, folder: Path) -> None:
    file = slot_of(folder, 10)
    damage(file, weights_begin(file))
    code, out, err = command("verify", folder)
    assert (code, err) == (1, "")
    assert out.splitlines() == [
        "step 12: whole (77.8 KiB)",
        f"step 10: {file.name} is damaged: chunk 0 of 1 is not as committed",
        "step 8: whole (77.8 KiB)",
        "step 4: whole (77.8 KiB)",
    ]


def test_verify_names_a_file_that_is_missing(command: Command, folder: Path) -> None:
    file = slot_of(folder, 12)
    file.unlink()
    code, out, _ = command("verify", folder, "--step", "12")
    assert (code, out) == (1, f"step 12: {file.name} is damaged: it is missing\n")


def test_show_lists_the_tensors(command: Command, folder: Path) -> None:
    assert command("show", folder, "--step", "10") == (
        0,
        "┏━━━━━━━━━━━━━━━━━━━━━┳━━━━━━━━━┳━━━━━━━┳━━━━━━━┓\n"
        "┃ tensor              ┃ dtype   ┃ shape ┃ bytes ┃\n"
        "┡━━━━━━━━━━━━━━━━━━━━━╇━━━━━━━━━╇━━━━━━━╇━━━━━━━┩\n"
        "│ model.bias          │ float32 │ 2     │     8 │\n"
        "│ model.weight        │ float32 │ 2 × 3 │    24 │\n"
        "│ rng.numpy.state.key │ uint32  │ 624   │ 2,496 │\n"
        "│ rng.python.words    │ uint32  │ 625   │ 2,500 │\n"
        "│ rng.torch           │ uint8   │ 5056  │ 5,056 │\n"
        "└─────────────────────┴─────────┴───────┴───────┘\n"
        "step 10: 5 tensors, 9.8 KiB\n",
        "",
    )


# ---------------------------------------------------------------- taking out


def test_export_writes_plain_safetensors(command: Command, folder: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.safetensors"
    assert command("export", folder, target)[0] == 0
    assert float(load_file(target)["model.weight"][0, 0]) == 12


def test_export_of_a_step_says_so(command: Command, folder: Path, tmp_path: Path) -> None:
    target = tmp_path / "out"
    code, out, err = command("export", folder, target, "--step", "4", "--format", "dcp")
    assert (code, " ".join(out.split()), err) == (0, f"wrote step 4 to {target}", "")
    state = {"model": {"weight": torch.zeros(2, 3)}}
    dcp.load(state, checkpoint_id=target, no_dist=True)  # type: ignore[attr-defined]
    assert float(state["model"]["weight"][0, 0]) == 4


def test_export_leaves_what_is_there(command: Command, folder: Path, tmp_path: Path) -> None:
    target = tmp_path / "there"
    target.write_text("mine")
    assert command("export", folder, target) == (
        2, "", f"remora: {str(target)!r} is there already; choose another name\n"
    )  # fmt: skip
    assert target.read_text() == "mine"


def test_export_of_a_damaged_one_writes_nothing(
    command: Command, folder: Path, tmp_path: Path
) -> None:
    file = slot_of(folder, 12)
    damage(file, weights_begin(file))
    code, out, err = command("export", folder, tmp_path / "out")
    assert (code, out) == (2, "")
    assert err == f"remora: {file.name} is damaged: chunk 0 of 1 is not as committed\n"
    assert not (tmp_path / "out").exists()


def test_export_where_nothing_can_be_written(
    command: Command, folder: Path, tmp_path: Path
) -> None:
    nowhere = tmp_path / "no" / "such"
    assert command("export", folder, nowhere / "file.safetensors") == (
        2, "", f"remora: there is no folder {str(nowhere)!r} to write into\n"
    )  # fmt: skip


# ---------------------------------------------------------------- giving up


def test_prune_gives_up_the_oldest(command: Command, folder: Path) -> None:
    before = sum(file.stat().st_size for file in folder.rglob("*.safetensors"))
    assert command("prune", folder, "--keep", "1") == (
        0, "gave up 3 checkpoints, of steps 10, 8, 4\n", ""
    )  # fmt: skip
    assert steps_listed(command, folder) == [12]
    assert command("prune", folder, "--keep", "1") == (0, "nothing to give up\n", "")
    assert sum(file.stat().st_size for file in folder.rglob("*.safetensors")) < before


def test_restore_goes_back(command: Command, folder: Path) -> None:
    assert command("restore", folder, "--step", "10", "--yes") == (
        0, "gave up 1 checkpoint, of step 12; the next run goes on from step 10\n", ""
    )  # fmt: skip
    assert steps_listed(command, folder) == [10, 8, 4]
    job = model(0)
    with Checkpointer(folder) as saver:
        assert saver.restore(model=job, progress={}) == 10
    assert float(job.weight.detach()[0, 0]) == 10


def test_restore_goes_back_to_an_archived_one(command: Command, folder: Path) -> None:
    assert command("restore", folder, "--step", "4", "--yes")[0] == 0
    job = model(0)
    with Checkpointer(folder) as saver:
        assert saver.restore(model=job, progress={}) == 4
    assert float(job.weight.detach()[0, 0]) == 4


def test_restore_asks_first(
    command: Command, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("n\n"))
    code, out, _ = command("restore", folder, "--step", "4")
    assert code == 1
    assert out.startswith("give up every checkpoint newer than step 4? [y/N]")
    assert steps_listed(command, folder) == [12, 10, 8, 4]


def test_restore_refuses_a_damaged_one(command: Command, folder: Path) -> None:
    file = slot_of(folder, 10)
    damage(file, weights_begin(file))
    code, _, err = command("restore", folder, "--step", "10", "--yes")
    assert code == 2
    assert err.startswith("remora: the checkpoint of step 10 cannot be gone back to: ")
    assert steps_listed(command, folder) == [12, 10, 8, 4]


# ---------------------------------------------------------------- mistakes

VERBS = (
    ("ls",), ("verify",), ("show",), ("export", "out"), ("prune", "--keep", "1"),
    ("restore", "--step", "4", "--yes"),
)  # fmt: skip


def given(verb: tuple[str, ...], folder: Path) -> tuple[object, ...]:
    return verb[0], folder, *verb[1:]


@pytest.mark.parametrize("verb", VERBS, ids=lambda verb: verb[0])
def test_no_such_folder(
    verb: tuple[str, ...], command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert command(*given(verb, Path("nowhere"))) == (
        2, "", "remora: there is no folder 'nowhere'; give a checkpoint folder\n"
    )  # fmt: skip
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("verb", VERBS, ids=lambda verb: verb[0])
def test_not_a_checkpoint_folder(
    verb: tuple[str, ...], command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("photos").mkdir()
    assert command(*given(verb, Path("photos"))) == (
        2, "", "remora: 'photos' is no checkpoint folder: it has no file 'commits'\n"
    )  # fmt: skip
    assert list(Path("photos").iterdir()) == []


@pytest.mark.parametrize("verb", ["verify", "show", "export", "restore"])
def test_no_such_step(verb: str, command: Command, folder: Path, tmp_path: Path) -> None:
    target = [tmp_path / "out"] if verb == "export" else []
    assert command(verb, folder, *target, "--step", "5") == (
        2, "", "remora: there is no checkpoint of step 5; there are 12, 10, 8, 4\n"
    )  # fmt: skip


@pytest.mark.parametrize("verb", [("prune", "--keep", "1"), ("restore", "--step", "4", "--yes")])
def test_in_use_by_a_job(verb: tuple[str, ...], command: Command, folder: Path) -> None:
    with Checkpointer(folder):
        code, out, err = command(*given(verb, folder))
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert str(folder) in err
    assert steps_listed(command, folder) == [12, 10, 8, 4]


def test_looking_is_possible_while_a_job_writes(command: Command, folder: Path) -> None:
    with Checkpointer(folder):
        for verb in ("ls", "verify", "show"):
            assert command(verb, folder)[0] == 0


def test_a_folder_that_cannot_be_written(
    command: Command, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read_only(self: LocalStorage) -> Lock:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(LocalStorage, "lock", read_only)
    code, _, err = command("prune", folder, "--keep", "1")
    assert code == 2
    assert err.startswith("remora: the checkpoint folder cannot be written: Read-only file system")


def test_prune_must_keep_something(command: Command, folder: Path) -> None:
    assert command("prune", folder, "--keep", "0") == (2, "", "remora: keep=0: choose 1 or more\n")


def test_restore_must_be_told_which(command: Command, folder: Path) -> None:
    code, _, err = command("restore", folder)
    assert code == 2
    assert err.startswith("remora: say which checkpoint: --step N")


def test_a_file_that_is_no_ring(command: Command, tmp_path: Path) -> None:
    (tmp_path / "commits").write_bytes(b"notes of mine")
    code, out, _ = command("ls", tmp_path)
    assert (code, out) == (0, "no checkpoint has been committed here yet\n")
