"""What jobs do to a folder, for crashes to happen in."""

from __future__ import annotations

import errno

import pytest
from tests.checkpoint.power_loss import OpenFolder, Run, Scenario, TwoRanks
from tests.checkpoint.saving import CHUNK

from remora.checkpoint.folder import Folder
from remora.checkpoint.storage.contract import Storage
from remora.checkpoint.storage.faulty import Call, FaultyStorage
from remora.checkpoint.storage.memory import MemoryStorage


def one_by_one(open_folder: OpenFolder) -> Run:
    run = Run(MemoryStorage(), open_folder)
    for step in range(1, 7):
        assert run.save(step)
    return run


def out_of_order(open_folder: OpenFolder) -> Run:
    """Two in flight, their chunks interleaved; later ones finish first, one of them too late."""
    run = Run(MemoryStorage(), open_folder)
    for step in (1, 3, 5):
        older, newer = run.begin(step), run.begin(step + 1)
        for index in range(older.layout.chunks):
            newer.write(index)
            older.write(index)
        assert run.commit(newer)
        if step < 5:
            assert run.commit(older)
    assert run.save(7)
    assert not run.commit(older)
    assert run.save(8)
    return run


def given_up_midway(open_folder: OpenFolder) -> Run:
    """A save that comes to nothing between others."""
    run = Run(MemoryStorage(), open_folder)
    run.save(1)
    unlucky = run.begin(2)
    unlucky.write(0)
    run.save(3)
    run.folder.give_back(unlucky.place)
    run.save(4)
    run.save(5)
    return run


def archiving(open_folder: OpenFolder) -> Run:
    run = Run(MemoryStorage(), open_folder, keep_every=2)
    for step in range(1, 8):
        run.save(step)
    return run


def archiving_a_step_again(open_folder: OpenFolder) -> Run:
    """Resumed from before a step that is archived already: it is saved and archived anew."""
    run = Run(MemoryStorage(), open_folder, keep_every=2)
    for step in (1, 2, 3, 4, 1, 2, 3, 4, 5, 6):
        run.save(step)
    return run


def dropping(open_folder: OpenFolder) -> Run:
    run = Run(MemoryStorage(), open_folder, keep=3)
    for step in (1, 2, 3):
        run.save(step)
    run.drop(run.folder.live[0])
    run.save(4)
    run.drop(run.folder.live[-1])
    run.save(5)
    run.save(6)
    return run


def growing(open_folder: OpenFolder) -> Run:
    """The state outgrows the slots."""
    run = Run(MemoryStorage(), open_folder)
    for step in (1, 2, 3):
        run.save(step)
    run.resize(9 * CHUNK)
    for step in (4, 5, 6, 7):
        run.save(step, 2)
    return run


def reopened(open_folder: OpenFolder) -> Run:
    """Closed and opened again, to keep fewer."""
    run = Run(MemoryStorage(), open_folder, keep=4)
    for step in range(1, 6):
        run.save(step)
    run.folder.close()
    again = Run(run.storage, open_folder, promises=run.promises, keep=2, keep_every=2)
    for step in range(6, 10):
        again.save(step)
    return again


def failing_records(open_folder: OpenFolder) -> Run:
    """Twice in a row, a record is written and its sync fails; then the slots are made anew."""
    failing = False

    def fault(call: Call) -> int:
        return errno.EIO if failing and (call.kind, call.name) == ("fdatasync", "commits") else 0

    def open_faulty(storage: Storage, **options: object) -> Folder:
        return open_folder(FaultyStorage(storage, fault), **options)

    run = Run(MemoryStorage(), open_faulty)
    for step in (1, 2, 3):
        run.save(step)
    for step in (4, 5):
        unlucky = run.begin(step)
        unlucky.write_all()
        failing = True
        with pytest.raises(OSError):
            run.commit(unlucky)
        failing = False
        run.folder.give_back(unlucky.place)
    run.resize(9 * CHUNK)
    for step in (6, 7, 8):
        run.save(step, 2)
    return run


def two_ranks(open_folder: OpenFolder) -> Run:
    """A part each; one save comes to nothing, and some stay for good."""
    run = TwoRanks(MemoryStorage(), open_folder, keep_every=2)
    for step in (1, 2, 3):
        assert run.save(step)
    unlucky = run.begin(4)
    unlucky.write(0)
    run.give_back(unlucky)
    older, newer = run.begin(5), run.begin(6)
    for index in range(older.layout.chunks):
        newer.write(index)
        older.write(index)
    assert run.commit(newer)  # type: ignore[arg-type]
    assert run.commit(older)  # type: ignore[arg-type]
    for step in (7, 8):
        assert run.save(step)
    return run


def ranks_that_grow(open_folder: OpenFolder) -> Run:
    """The state of both outgrows the slots."""
    run = TwoRanks(MemoryStorage(), open_folder)
    run.save(1)
    run.save(2)
    run.resize(9 * CHUNK)
    for step in (3, 4, 5):
        run.save(step, 2)
    return run


ALL: list[Scenario] = [
    one_by_one,
    out_of_order,
    given_up_midway,
    archiving,
    archiving_a_step_again,
    dropping,
    growing,
    reopened,
    failing_records,
    two_ranks,
    ranks_that_grow,
]
