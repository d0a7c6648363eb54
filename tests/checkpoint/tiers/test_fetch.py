"""Bringing a copy into a folder."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
import torch
from tests.checkpoint.tiers.builders import commit, open_folder, state

from remora.checkpoint import inventory
from remora.checkpoint.storage.faulty import FaultyStorage, every
from remora.checkpoint.storage.memory import MemoryStorage
from remora.checkpoint.tiers.copier import Copier
from remora.checkpoint.tiers.fetch import fetch
from remora.checkpoint.tiers.objects import ObjectShelf
from remora.checkpoint.tiers.run_name import RunName
from remora.checkpoint.tiers.view import ShelfStorage
from remora.core.errors import CheckpointDamaged, CheckpointUnusable, FolderInUse

RUN = "0123456789abcdef"


@pytest.fixture
def copies(tmp_path: Path) -> ShelfStorage:
    """Of steps 30 and 40."""
    shelf = ObjectShelf(f"memory://{tmp_path}")
    folder = open_folder()
    copier = Copier(folder, shelf, run=lambda: RUN, who="me", say=pytest.fail)
    for step in (30, 40):
        copier.copy(commit(folder, step))
    folder.close()
    return ShelfStorage(shelf)


def steps(storage: MemoryStorage) -> list[int]:
    found = inventory.committed(storage)
    assert [inventory.verify(storage, each).damage for each in found] == [None] * len(found)
    return [each.entry.step for each in found]


def test_the_newest_comes_into_an_empty_folder(copies: ShelfStorage) -> None:
    storage = MemoryStorage()
    assert fetch(copies, storage).step == 40
    assert steps(storage) == [40]
    loaded = inventory.load(storage, inventory.find(storage, None))
    assert torch.equal(loaded["weight"], torch.as_tensor(state(40)["weight"]))
    assert RunName(storage)() == RUN


def test_it_becomes_the_newest_of_a_folder_whatever_its_step(copies: ShelfStorage) -> None:
    storage = MemoryStorage()
    folder = open_folder(storage)
    for step in (50, 60, 70):
        commit(folder, step)
    folder.close()
    fetch(copies, storage, 30)
    assert steps(storage) == [30, 70, 60]
    again = open_folder(storage)
    commit(again, 31)
    assert steps(storage) == [31, 30]
    again.close()


def test_a_step_that_is_not_there_says_which_are(copies: ShelfStorage) -> None:
    with pytest.raises(CheckpointUnusable, match="no checkpoint of step 7; there are 40, 30"):
        fetch(copies, MemoryStorage(), 7)


def test_a_damaged_copy_is_not_brought(copies: ShelfStorage) -> None:
    storage = MemoryStorage()
    fetch(copies, storage, 30)
    shelf = copies.shelf
    assert isinstance(shelf, ObjectShelf)
    name = next(n for n in shelf._names() if "000002" in n and n.endswith(".safetensors"))
    data = bytearray(shelf._fs.cat_file(shelf._path(name)))
    data[15_000] ^= 1
    shelf._fs.pipe_file(shelf._path(name), bytes(data))
    with pytest.raises(CheckpointDamaged):
        fetch(copies, storage)
    assert steps(storage) == [30]


def test_a_full_disk_is_said_and_the_folder_stays_as_it_was(copies: ShelfStorage) -> None:
    storage = MemoryStorage()
    fetch(copies, storage, 30)
    full = FaultyStorage(storage, every("allocate", errno.ENOSPC))
    with pytest.raises(CheckpointUnusable, match="are free; choose another disk"):
        fetch(copies, full)
    assert steps(storage) == [30]


def test_a_folder_in_use_is_left_alone(copies: ShelfStorage) -> None:
    storage = MemoryStorage()
    folder = open_folder(storage)
    with pytest.raises(FolderInUse):
        fetch(copies, storage)
    folder.close()


def all_of_it(_: int) -> bool:
    return True


def none_of_it(_: int) -> bool:
    return False


def every_other(number: int) -> bool:
    return number % 2 == 0


def test_power_loss_at_any_moment_leaves_what_was_there_or_the_new_one(
    copies: ShelfStorage,
) -> None:
    storage = MemoryStorage()
    fetch(copies, storage, 30)
    began = len(storage.log)
    fetch(copies, storage, 40)
    for at in range(began, len(storage.log) + 1):
        loss = storage.power_loss(at)
        for survives in (all_of_it, none_of_it, every_other):
            for names in range(len(loss.names) + 1):
                assert steps(loss.found(survives, names)) in ([30], [40, 30]), at
    assert steps(storage) == [40, 30]
