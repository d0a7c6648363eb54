"""A checkpointer with copies elsewhere: a machine is lost, and training goes on from the copy."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.checkpoint.shelves import KINDS, make_bucket, place

from remora.checkpoint import inventory
from remora.checkpoint.checkpointer import Checkpointer
from remora.checkpoint.commit import slot_name
from remora.checkpoint.tiers.shelves import open_shelf
from remora.core.errors import BadValue, CheckpointUnusable, Unavailable


@pytest.fixture(params=KINDS)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    with place(request.param, tmp_path) as where:
        make_bucket(where)
        yield where


@pytest.fixture
def memory(tmp_path: Path) -> str:
    return f"memory://{tmp_path}"


class Training:
    """A small one whose losses depend on every bit of its state."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.model = torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.Dropout(0.2))
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=0.01)

    @property
    def parts(self) -> dict[str, Any]:
        return {"model": self.model, "optimizer": self.optimizer}

    def step(self) -> float:
        self.optimizer.zero_grad()
        loss = self.model(torch.randn(8, 64)).square().mean()
        loss.backward()
        self.optimizer.step()
        return float(loss.detach())


def train(directory: Path, until: int, **options: Any) -> tuple[int, list[float]]:
    """One job: from where it can go on to ``until``; where that was, and its losses."""
    training = Training()
    with Checkpointer(directory, every=2, when_slow="block", **options) as saver:
        begin = saver.restore(**training.parts) or 0
        losses = []
        for step in range(begin, until):
            losses.append(training.step())
            saver.step(step)
    return begin, losses


def test_a_lost_folder_is_gone_on_from_its_copy_bit_for_bit(url: str, tmp_path: Path) -> None:
    _, whole = train(tmp_path / "a", 12)
    train(tmp_path / "b", 6, second=url)
    shutil.rmtree(tmp_path / "b")
    begin, rest = train(tmp_path / "b", 12, second=url)
    assert begin == 6
    assert rest == whole[6:]
    shelf = open_shelf(url)
    assert shelf.copies()[0].entry.step == 12
    assert shelf.copies()[0].generation == 2
    shelf.close()


def test_a_folder_none_of_whose_checkpoints_is_whole_is_passed_over(
    memory: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(tmp_path / "a", 6, second=memory)
    for slot in range(6):
        path = tmp_path / "a" / slot_name(slot)
        if path.exists():
            data = bytearray(path.read_bytes())
            data[9000] ^= 1
            path.write_bytes(data)
    begin, _ = train(tmp_path / "a", 8, second=memory)
    assert begin == 6
    assert f"step 6 was restored from its copy at {memory}" in capsys.readouterr().err


def test_the_folder_comes_before_its_copies_unless_told(memory: str, tmp_path: Path) -> None:
    train(tmp_path / "a", 4, second=memory)
    train(tmp_path / "a", 8)  # these are not copied
    training = Training()
    with Checkpointer(tmp_path / "a", second=memory) as saver:
        assert saver.restore(**training.parts) == 8
        assert saver.restore(source="second") == 4
        assert saver.restore(source=memory) == 4
        assert saver.restore(source="local") == 8
        with pytest.raises(BadValue, match="source='elsewhere': choose 'local', 'second' or a URL"):
            saver.restore(source="elsewhere")


def test_a_step_that_only_a_copy_is_of_is_found(memory: str, tmp_path: Path) -> None:
    train(tmp_path / "a", 4, second=memory, second_keep=9)
    train(tmp_path / "a", 12)
    with Checkpointer(tmp_path / "a", second=memory) as saver:
        assert saver.restore(4, **Training().parts) == 4


def test_nothing_anywhere_is_a_fresh_start(memory: str, tmp_path: Path) -> None:
    begin, _ = train(tmp_path / "a", 2, second=memory)
    assert begin == 0


def test_a_place_that_may_hold_the_only_copy_must_answer(tmp_path: Path) -> None:
    with Checkpointer(tmp_path / "a", second="peer://127.0.0.1:1/run") as saver:
        with pytest.raises(CheckpointUnusable, match=r"peer://127\.0\.0\.1:1/run cannot be reach"):
            saver.restore(**Training().parts)
        assert saver.restore(source="local", **Training().parts) is None


def test_training_goes_on_where_the_place_does_not_answer(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, whole = train(tmp_path / "a", 6)
    training = Training()
    with Checkpointer(tmp_path / "b", every=1, second="peer://127.0.0.1:1/run") as saver:
        saver.track(**training.parts)
        losses = []
        for step in range(6):
            losses.append(training.step())
            saver.save(step + 1)
            saver.wait()
        assert saver.counters.committed == 6
    assert losses == whole
    lines = capsys.readouterr().err.splitlines()
    assert sum("could not be copied" in line for line in lines) == 1
    assert "was not copied to peer://127.0.0.1:1/run before the end" in lines[-1]


def test_of_several_places_the_one_with_most_steps_is_taken(memory: str, tmp_path: Path) -> None:
    other = (tmp_path / "copies").as_uri()
    train(tmp_path / "a", 4, second=[memory, other])
    train(tmp_path / "a", 8, second=[other])
    shutil.rmtree(tmp_path / "a")
    begin, _ = train(tmp_path / "a", 10, second=[memory, other])
    assert begin == 8
    assert [open_shelf(url).copies()[0].entry.step for url in (memory, other)] == [10, 10]


def test_a_second_job_that_did_not_restore_from_it_is_refused_the_place(
    memory: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(tmp_path / "a", 4, second=memory)
    training = Training()
    with Checkpointer(tmp_path / "other", every=1, second=memory) as saver:
        saver.restore(source="local", **training.parts)
        saver.save(100)
        saver.wait()
    assert "holds checkpoints of another run" in capsys.readouterr().err
    assert open_shelf(memory).copies()[0].entry.step == 4


def test_counters_say_what_was_copied(memory: str, tmp_path: Path) -> None:
    training = Training()
    with Checkpointer(tmp_path / "a", second=memory) as saver:
        saver.track(**training.parts)
        saver.save(1)
    counters = saver.elsewhere.counters[memory]
    assert (counters.copied, counters.last_step, counters.failed) == (1, 1, 0)


def test_each_place_takes_one_slot_more_and_none_is_taken_without(
    memory: str, tmp_path: Path
) -> None:
    train(tmp_path / "a", 20)
    train(tmp_path / "b", 20, second=memory)
    count = {name: len(list((tmp_path / name).glob("slot-*"))) for name in "ab"}
    assert count == {"a": 5, "b": 6}
    assert not (tmp_path / "a" / "run").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"second": "nosuch://x"}, "cannot be opened"),
        ({"second": "peer://host/run"}, "no address"),
        ({"second": "peer://host:7718"}, "does not name a run"),
        ({"second": "peer://host:7718/run?tokn=x"}, "does not name a run"),
        ({"second": "peer://host:7718/run?token_file=/none"}, "cannot be read"),
        ({"second": "memory://x", "second_keep": 0}, "second_keep=0"),
        ({"second": "memory://x", "second_bytes_s": 10}, "second_bytes_s=10"),
    ],
    ids=lambda value: None if isinstance(value, str) else "-".join(map(str, value.values())),
)
def test_what_makes_no_sense_is_refused_at_once(
    options: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(BadValue, match=message):
        Checkpointer(tmp_path / "a", **options)


def test_a_package_that_is_missing_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:

    monkeypatch.setitem(sys.modules, "fsspec", None)
    with pytest.raises(Unavailable, match=r"remora\[elsewhere\]"):
        Checkpointer(tmp_path / "a", second="memory://x")


def test_copies_are_listed_and_verified_like_a_folder(memory: str, tmp_path: Path) -> None:
    train(tmp_path / "a", 6, second=memory)
    view = inventory.open_place(memory)
    found = inventory.committed(view)
    assert found[0].entry.step == 6
    assert all(inventory.verify(view, each).damage is None for each in found)
    assert inventory.tensors(view, found[0])
    with pytest.raises(CheckpointUnusable, match="can only be read"):
        inventory.prune(view, 1)
