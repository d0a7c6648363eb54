"""Where ranks meet: the same of the twin in one process and of every store torch has."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from torch._C._distributed_c10d import FileStore, HashStore, TCPStore

from remora.check.ranks import store as stores
from remora.check.ranks.gathering import Gathering
from remora.check.ranks.meeting import Meeting, Room, Said
from remora.check.ranks.store import StoreMeeting
from remora.core.ranks import Ranks

WORLD = 3
Seats = Callable[[], list[Meeting]]


def _lost(why: str) -> None:
    raise AssertionError(why)


def tcp_store() -> Any:
    return TCPStore("127.0.0.1", 0, is_master=True)


@pytest.fixture(params=["room", "hash", "file", "tcp"])
def seats(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[list[Meeting]]:
    if request.param == "room":
        room = Room(WORLD)
        yield [room.seat(rank) for rank in range(WORLD)]
        return
    store = {
        "hash": HashStore,
        "file": lambda: FileStore(str(tmp_path / "store"), WORLD),
        "tcp": tcp_store,
    }[request.param]()
    meetings = [StoreMeeting(Ranks(store, n, WORLD), "test", _lost) for n in range(WORLD)]
    yield list(meetings)
    for meeting in meetings:
        meeting.close()


def test_each_that_comes_later_hears_the_first(seats: list[Meeting]) -> None:
    assert seats[1].first("step", 0, b"one\0") is None
    assert seats[0].first("step", 0, b"zero") == Said(1, b"one\0")
    assert seats[2].first("step", 0, b"two") == Said(1, b"one\0")


def test_topics_and_numbers_are_apart(seats: list[Meeting]) -> None:
    seats[0].first("step", 0, b"zero")

    assert seats[1].first("other", 0, b"one") is None
    assert seats[1].first("step", 1, b"one") is None
    assert seats[0].first("step", 1, b"zero") == Said(1, b"one")


def test_what_is_told_can_be_asked_for(seats: list[Meeting]) -> None:
    seats[0].tell("names", b"a\0b")

    assert seats[1].told("names") == b"a\0b"
    assert seats[1].told("others") is None


def test_numbers_go_on_without_end(seats: list[Meeting], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stores, "WINDOW", 4)
    for number in range(19):
        first, later = (seats[0], seats[1]) if number % 3 else (seats[1], seats[0])
        assert first.first("step", number, b"first%d" % number) is None
        assert later.first("step", number, b"later") == Said(first.rank, b"first%d" % number)


def test_a_rank_that_is_a_window_behind_hears_nothing_wrong(
    seats: list[Meeting], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stores, "WINDOW", 4)
    for number in range(10):
        seats[0].first("step", number, b"%d" % number)

    heard = [seats[1].first("step", number, b"late") for number in range(10)]

    assert heard[6:] == [Said(0, b"%d" % number) for number in range(6, 10)]
    assert set(heard[:6]) <= {None, *(Said(0, b"%d" % number) for number in range(6))}


def test_threads_of_one_rank_may_speak_at_once(seats: list[Meeting]) -> None:
    heard: dict[tuple[int, int], Said | None] = {}

    def speak(rank: int, topic: int) -> None:
        for number in range(20):
            heard[rank, 100 * topic + number] = seats[rank].first(
                f"topic{topic}", number, b"%d" % number
            )

    threads = [threading.Thread(target=speak, args=(r, t)) for r in range(WORLD) for t in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    for topic in range(2):
        for number in range(20):
            answers = [heard[rank, 100 * topic + number] for rank in range(WORLD)]
            assert answers.count(None) == 1
            first = answers.index(None)
            assert {one for one in answers if one} == {Said(first, b"%d" % number)}


class Frozen:
    """A store in a process that is stopped."""

    def __init__(self) -> None:
        self.thaw = threading.Event()
        self.asked = 0

    def clone(self) -> Frozen:
        return self

    def compare_set(self, *_: object) -> bytes:
        self.asked += 1
        self.thaw.wait()
        return b""

    def set(self, *_: object) -> None:
        self.asked += 1
        self.thaw.wait()


def test_a_store_that_does_not_answer_is_given_up_once() -> None:
    said: list[str] = []
    frozen = Frozen()
    meeting = StoreMeeting(Ranks(frozen, 0, 2), "test", said.append, patience_s=0.05)
    begun = time.monotonic()

    heard = [meeting.first("step", number, b"") for number in range(100)]
    meeting.tell("names", b"")

    assert time.monotonic() - begun < 1
    assert heard == [None] * 100
    assert said == ["the job's store does not answer"]
    assert frozen.asked == 1

    frozen.thaw.set()  # it answers, with nothing: nobody asks again
    time.sleep(0.1)
    assert frozen.asked == 1


def test_a_store_that_is_gone_is_given_up_once() -> None:
    said: list[str] = []
    store = tcp_store()
    client = TCPStore("127.0.0.1", store.port, is_master=False)
    meeting = StoreMeeting(Ranks(client, 0, 2), "test", said.append)
    meeting.first("step", 0, b"")
    del store

    assert [meeting.first("step", number, b"") for number in range(1, 4)] == [None] * 3
    assert said == ["the job's store is gone"]


def test_the_twin_forgets_what_is_too_much() -> None:
    room = Room(2, most_bytes=10)
    zero, one = room.seat(0), room.seat(1)
    for number in range(5):
        zero.first("step", number, b"0123456789")

    assert one.first("step", 0, b"") == Said(0, b"0123456789")
    assert [one.first("step", number, b"") for number in range(1, 5)] == [None] * 4


# ---------------------------------------------------------------- at the end


@pytest.mark.slow
def test_what_every_rank_gives_comes_to_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("remora.check.ranks.gathering.PART_BYTES", 7)
    monkeypatch.setattr("remora.check.ranks.gathering._gatherings", iter([0, 0, 0]))
    store = tcp_store()
    first, *others = [Gathering(Ranks(store, n, 3), patience_s=2.0) for n in range(3)]

    assert others[0].give(bytes(range(256)) * 9)

    assert list(first.take()) == [(1, bytes(range(256)) * 9), (2, None)]
    first.hear()
    assert others[0].was_heard()
