"""The journal's bytes: what was written is read, and nothing else is."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from remora.checkpoint.ride import journal
from remora.checkpoint.ride.journal import (
    JOURNAL_VERSION,
    Begun,
    Ended,
    Entries,
    Entry,
    Frame,
    Journal,
    Log,
    Point,
    Resumed,
)
from remora.checkpoint.storage.memory import MemoryStorage
from remora.core.errors import CheckpointUnusable

BEGUN = Begun(JOURNAL_VERSION, "train.py", ["--lr", "0.1"], 0)

values = st.one_of(
    st.floats(allow_nan=False), st.integers(-(2**63), 2**64 - 1), st.booleans(), st.text(),
    st.lists(st.integers(0, 255)), st.binary(max_size=64),
)  # fmt: skip
frames = st.one_of(
    st.builds(Entries, st.integers(0, 99), st.lists(st.builds(Entry, st.text(max_size=9), values))),
    st.builds(Point, st.integers(0, 99), st.integers(0, 99), st.just("forward")),
    st.builds(Resumed, st.integers(1, 9)),
    st.builds(Ended, st.integers(0, 99), st.integers(0, 99)),
)


def encoded(parts: list[Frame]) -> tuple[bytes, list[int]]:
    data, seal, ends = b"", 0, []
    for frame in parts:
        piece, seal = journal.encode(frame, seal)
        data += piece
        ends.append(len(data))
    return data, ends


def decoded(data: bytes) -> list[Frame]:
    return [placed.frame for placed in journal.decode(memoryview(data))]


@given(st.lists(frames, max_size=8))
def test_what_is_written_is_read(parts: list[Frame]) -> None:
    assert decoded(encoded(parts)[0]) == parts


@given(st.lists(frames, min_size=1, max_size=6), st.data())
def test_a_torn_tail_is_ignored(parts: list[Frame], data: st.DataObject) -> None:
    whole, ends = encoded(parts)
    cut = data.draw(st.integers(0, len(whole)))

    assert decoded(whole[:cut]) == parts[: sum(end <= cut for end in ends)]


@given(st.lists(frames, min_size=1, max_size=6), st.data())
def test_reading_stops_at_the_first_damaged_frame(parts: list[Frame], data: st.DataObject) -> None:
    whole, ends = encoded(parts)
    place = data.draw(st.integers(0, len(whole) - 1))
    bit = 1 << data.draw(st.integers(0, 7))
    damaged = bytearray(whole)
    damaged[place] ^= bit

    assert decoded(bytes(damaged)) == parts[: sum(end <= place for end in ends)]


@given(st.binary(max_size=300))
def test_anything_at_all_can_be_read(data: bytes) -> None:
    assert isinstance(decoded(data), list)


def test_a_nan_stays_one() -> None:
    data, _ = encoded([Entries(0, [Entry("item", math.nan), Entry("item", math.inf)])])
    (frame,) = decoded(data)

    assert isinstance(frame, Entries)
    assert math.isnan(frame.entries[0].value)
    assert frame.entries[1].value == math.inf


def write(book: Journal, *steps: list[Any]) -> None:
    for reads in steps:
        for value in reads:
            book.note("item", value)
        book.stepped()


def read(storage: MemoryStorage) -> Log:
    log = journal.read(storage, "journal")
    assert log is not None
    return log


def entries(log: Log) -> list[tuple[int, list[Any]]]:
    batches = [placed.frame for placed in log.frames]
    return [
        (batch.calls, [each.value for each in batch.entries])
        for batch in batches
        if isinstance(batch, Entries)
    ]


def test_reads_lie_with_the_step_they_were_made_in() -> None:
    storage = MemoryStorage()
    book = Journal(storage, "journal", BEGUN)
    write(book, [1.5], [], [2.5, 3.5])
    book.note("item", 4.5)
    book.mark(Point(3, 3, "forward"))

    assert entries(read(storage)) == [(0, [1.5]), (2, [2.5, 3.5]), (3, [4.5])]


def test_a_resumed_run_writes_over_what_came_after_its_point() -> None:
    storage = MemoryStorage()
    book = Journal(storage, "journal", BEGUN)
    write(book, [1.0])
    book.mark(Point(1, 1, "forward"))
    write(book, [2.0], [3.0], [4.0])
    upto = read(storage).upto(1)
    assert upto is not None
    again = Journal(storage, "journal", upto)
    again.calls = 1
    write(again, [2.0])

    assert entries(read(storage)) == [(0, [1.0]), (1, [2.0])]
    assert read(storage).attempts == 2


def test_there_is_nothing_up_to_a_step_that_was_not_saved() -> None:
    storage = MemoryStorage()
    Journal(storage, "journal", BEGUN).mark(Point(4, 4, "forward"))

    assert read(storage).upto(3) is None


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.lists(st.floats(allow_nan=False), max_size=3), min_size=1, max_size=5), st.data()
)
def test_what_was_flushed_survives_power_loss(
    steps: list[list[float]], data: st.DataObject
) -> None:
    storage = MemoryStorage()
    book = Journal(storage, "journal", BEGUN)
    write(book, *steps)
    book.mark(Point(len(steps), len(steps), "forward"))
    book.flush()
    write(book, [9.0])
    at = len(storage.log)
    loss = storage.power_loss(at)
    lost = data.draw(st.sets(st.integers(0, len(loss.sectors))))
    torn = loss.found(lambda index: index not in lost)
    log = journal.read(torn, "journal")

    assert log is not None
    assert log.upto(len(steps)) is not None


def test_a_journal_of_another_version_is_refused() -> None:
    storage = MemoryStorage()
    Journal(storage, "journal", Begun(99, "train.py", [], 0))

    with pytest.raises(CheckpointUnusable, match="version 99"):
        journal.read(storage, "journal")


def test_what_an_earlier_attempt_left_is_not_read_even_where_its_frames_align() -> None:
    common: list[Frame] = [BEGUN, Point(1, 1, "forward")]
    earlier, _ = encoded([*common, Ended(2, 2), Ended(3, 3)])
    later, _ = encoded([*common, Ended(4, 4)])

    assert len(later) < len(earlier)
    assert decoded(later + earlier[len(later) :]) == [*common, Ended(4, 4)]
