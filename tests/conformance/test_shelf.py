"""The contract of a shelf, held against every kind of one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.checkpoint.shelves import KINDS, make_bucket, place

from remora.checkpoint.layout.records import Entry
from remora.checkpoint.tiers.contract import Copy, Owner, Shelf, Unowned
from remora.checkpoint.tiers.shelves import open_shelf
from remora.core.errors import FolderInUse

RUN = "0123456789abcdef"


@pytest.fixture(params=KINDS)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    with place(request.param, tmp_path) as where:
        make_bucket(where)
        yield where


@pytest.fixture
def shelf(url: str) -> Iterator[Shelf]:
    opened = open_shelf(url)
    yield opened
    opened.close()


def entry(step: int, parts: int = 1) -> Entry:
    return Entry(step, step * 10, 0, parts, 3, bytes([step]) * 16, 0)


def copy_of(owner: Owner, step: int, sizes: tuple[int, ...] = (5000,)) -> Copy:
    return Copy(owner.generation, owner.session, entry(step, len(sizes)), sizes)


def content(copy: Copy, part: int) -> bytes:
    seed = copy.entry.sequence * 7 + part * 3 + copy.generation
    return bytes((seed + n) % 251 for n in range(copy.sizes[part]))


def parts(copy: Copy, piece: int = 1000) -> list[Iterable[memoryview]]:
    return [
        [
            memoryview(content(copy, part))[begin : begin + piece]
            for begin in range(0, copy.sizes[part], piece)
        ]
        for part in range(len(copy.sizes))
    ]


def read(shelf: Shelf, copy: Copy, part: int = 0, offset: int = 0, count: int = 10**6) -> bytes:
    room = memoryview(bytearray(count))
    return bytes(room[: shelf.pread(copy, part, room, offset)])


def steps(shelf: Shelf) -> list[int]:
    return [copy.entry.sequence for copy in shelf.copies()]


def test_an_empty_place_has_no_owner_and_no_copies(shelf: Shelf) -> None:
    assert shelf.owner() is None
    assert shelf.copies() == []


def test_what_was_put_is_there_byte_for_byte(shelf: Shelf, url: str) -> None:
    copy = copy_of(shelf.claim(RUN, "me"), 1, (5000, 1, 8192))
    shelf.put(copy, parts(copy))
    other = open_shelf(url)
    assert other.copies() == [copy]
    for part in range(3):
        assert read(other, copy, part) == content(copy, part)
    assert read(other, copy, 0, 4000, 10) == content(copy, 0)[4000:4010]
    assert read(other, copy, 0, 4990, 100) == content(copy, 0)[4990:]
    assert read(other, copy, 0, 5000, 100) == b""
    other.close()


def test_the_newest_comes_first_and_old_ones_go(shelf: Shelf) -> None:
    owner = shelf.claim(RUN, "me")
    for step in (1, 2, 3):
        copy = copy_of(owner, step)
        shelf.put(copy, parts(copy))
    assert steps(shelf) == [3, 2, 1]
    shelf.retain(2)
    assert steps(shelf) == [3, 2]
    with pytest.raises(FileNotFoundError):
        read(shelf, copy_of(owner, 1))
    assert read(shelf, copy_of(owner, 2)) == content(copy_of(owner, 2), 0)


def test_a_put_that_fails_leaves_no_copy(shelf: Shelf) -> None:
    owner = shelf.claim(RUN, "me")
    kept, broken = copy_of(owner, 1), copy_of(owner, 2)
    shelf.put(kept, parts(kept))

    def breaks() -> Iterator[memoryview]:
        yield memoryview(content(broken, 0))[:3000]
        raise RuntimeError("the source is damaged")

    with pytest.raises(RuntimeError, match="the source is damaged"):
        shelf.put(broken, [breaks()])
    assert shelf.copies() == [kept]
    shelf.put(broken, parts(broken))
    shelf.retain(2)
    assert steps(shelf) == [2, 1]
    assert read(shelf, broken) == content(broken, 0)


def test_a_put_of_too_few_or_too_many_bytes_fails(shelf: Shelf) -> None:
    copy = copy_of(shelf.claim(RUN, "me"), 1)
    for wrong in (content(copy, 0)[:-1], content(copy, 0) + b"x"):
        with pytest.raises(OSError):
            shelf.put(copy, [[memoryview(wrong)]])
        assert shelf.copies() == []


def test_putting_again_what_is_there_changes_nothing(shelf: Shelf) -> None:
    copy = copy_of(shelf.claim(RUN, "me"), 1)
    shelf.put(copy, parts(copy))
    shelf.put(copy, [iter(())])
    assert read(shelf, copy) == content(copy, 0)
    assert shelf.copies() == [copy]


def test_an_owner_follows_an_owner_of_the_same_run(shelf: Shelf, url: str) -> None:
    first = shelf.claim(RUN, "the first")
    copy = copy_of(first, 7)
    shelf.put(copy, parts(copy))
    successor = open_shelf(url)
    second = successor.claim(RUN, "the second")
    assert (second.run, second.who) == (RUN, "the second")
    assert second.generation > first.generation
    assert second.session != first.session
    assert shelf.owner() == second
    newer = copy_of(second, 1)  # its folder is new: sequences begin again, and yet it is newer
    successor.put(newer, parts(newer))
    assert successor.copies() == [newer, copy]


def test_another_run_is_refused(shelf: Shelf, url: str) -> None:
    owner = shelf.claim(RUN, "process 5 on here")
    stranger = open_shelf(url)
    with pytest.raises(FolderInUse, match="another run, last written by process 5 on here"):
        stranger.claim("f" * 16, "somebody")
    assert shelf.owner() == owner


def test_who_was_taken_over_writes_no_more(shelf: Shelf, url: str) -> None:
    old = shelf.claim(RUN, "the first")
    new = open_shelf(url).claim(RUN, "the second")
    copy = copy_of(old, 1)
    with pytest.raises(FolderInUse, match="the second"):
        shelf.put(copy, parts(copy))
    assert shelf.copies() == []
    assert new.generation == old.generation + 1


def test_a_place_that_nobody_owns_is_to_be_claimed_first(shelf: Shelf) -> None:
    copy = copy_of(Owner(RUN, "abc", 1, "me"), 1)
    with pytest.raises(Unowned):
        shelf.put(copy, parts(copy))
    assert shelf.copies() == []
    mine = copy_of(shelf.claim(RUN, "me"), 1)
    shelf.put(mine, parts(mine))
    assert shelf.copies() == [mine]


def test_what_is_not_there_cannot_be_read(shelf: Shelf) -> None:
    copy = copy_of(shelf.claim(RUN, "me"), 1)
    shelf.put(copy, parts(copy))
    with pytest.raises(FileNotFoundError):
        read(shelf, replace(copy, session="ffffffff"))


def test_closing_twice_does_no_harm(shelf: Shelf) -> None:
    shelf.close()
    shelf.close()
