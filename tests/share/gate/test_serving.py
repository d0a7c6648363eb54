"""A high-priority job's slot: shut from a request's beginning until the device is done with it."""

from __future__ import annotations

import threading

import pytest
from tests.share.gate.fake_driver import FakeDriver
from tests.share.gate.members import Members

from remora.share.gate.driver import CpuDriver
from remora.share.gate.memory import Memory, Slot
from remora.share.gate.serving import TIMED_EVERY, Serving
from remora.share.system.roster import Roster

MS = 1_000_000


@pytest.fixture
def slot(roster: Roster, members: Members) -> Slot:
    slot = Memory(roster, "fake").take(members.join())
    assert slot is not None
    return slot


def shut(slot: Slot) -> bool:
    """Anew each time: the device writes meanwhile."""
    return slot.is_shut


class Threads:
    """Threads that begin and end requests when they are told, each on a stream of its own."""

    def __init__(self, serving: Serving, driver: FakeDriver) -> None:
        self._serving, self._driver = serving, driver
        self._threads: dict[str, tuple[threading.Thread, list[str], threading.Barrier]] = {}

    def do(self, name: str, what: str, takes_ns: int = 0) -> None:
        """``begins`` or ``ends`` in thread ``name``, which has issued work of ``takes_ns``."""
        self._driver.stream = name
        if takes_ns:
            self._driver.on.issue(takes_ns, name)
        if name not in self._threads:
            orders, barrier = list[str](), threading.Barrier(2)
            thread = threading.Thread(target=self._run, args=(orders, barrier), daemon=True)
            self._threads[name] = thread, orders, barrier
            thread.start()
        _, orders, barrier = self._threads[name]
        orders.append(what)
        barrier.wait(10)
        barrier.wait(10)

    def _run(self, orders: list[str], barrier: threading.Barrier) -> None:
        while True:
            barrier.wait()
            order = orders.pop()
            if order != "stop":
                getattr(self._serving, order)()
            barrier.wait()
            if order == "stop":
                return

    def end(self) -> None:
        for name in list(self._threads):
            self.do(name, "stop")


def test_on_a_cpu_it_is_open_when_the_forward_returns(slot: Slot) -> None:
    serving = Serving(slot, CpuDriver())
    for number in range(1, 4):
        serving.begins()
        assert shut(slot)
        serving.ends()
        assert not shut(slot)
        assert slot.begun == number


def test_the_device_opens_it_when_it_gets_there(slot: Slot) -> None:
    driver = FakeDriver()
    serving = Serving(slot, driver)
    serving.begins()
    driver.on.issue(5 * MS)
    serving.ends()
    driver.on.move_to(4 * MS)
    assert shut(slot)
    driver.on.move_to(5 * MS)
    assert not shut(slot)


def test_a_request_that_begins_while_the_device_does_the_last_keeps_it_shut(slot: Slot) -> None:
    driver = FakeDriver()
    serving = Serving(slot, driver)
    serving.begins()
    driver.on.issue(5 * MS)
    serving.ends()
    serving.begins()
    driver.on.move_to(6 * MS)
    assert shut(slot)  # what was written is the number of the first
    driver.on.issue(1 * MS)
    serving.ends()
    driver.on.move_to(7 * MS)
    assert not shut(slot)


def test_of_requests_side_by_side_the_last_to_end_opens_behind_all(slot: Slot) -> None:
    driver = FakeDriver()
    serving = Serving(slot, driver)
    threads = Threads(serving, driver)
    threads.do("a", "begins")
    threads.do("b", "begins")
    threads.do("a", "ends", takes_ns=9 * MS)  # first over, and longest on the device
    threads.do("b", "ends", takes_ns=2 * MS)
    driver.on.move_to(8 * MS)
    assert shut(slot)
    driver.on.move_to(9 * MS)
    assert not shut(slot)
    threads.end()


def test_requests_one_after_another_on_two_streams_never_leave_it_shut(slot: Slot) -> None:
    driver = FakeDriver()
    serving = Serving(slot, driver)
    threads = Threads(serving, driver)
    threads.do("a", "begins")
    threads.do("a", "ends", takes_ns=9 * MS)
    threads.do("b", "begins")
    threads.do("b", "ends", takes_ns=1 * MS)  # done long before what "a" has issued
    driver.on.move_to(8 * MS)
    assert shut(slot)
    driver.on.move_to(9 * MS)
    assert not shut(slot)
    threads.end()


def test_an_end_without_a_beginning_is_nothing(slot: Slot) -> None:
    serving = Serving(slot, CpuDriver())
    serving.ends()
    assert slot.begun == 0


def test_a_forward_that_raised_is_over_with_the_next(slot: Slot) -> None:
    serving = Serving(slot, CpuDriver())
    serving.begins()
    serving.begins()
    serving.ends()
    assert not shut(slot)


def test_once_nobody_listens_it_is_open(slot: Slot) -> None:
    serving = Serving(slot, CpuDriver())
    serving.begins()
    serving.end()
    assert not shut(slot)
    serving.ends()
    assert not shut(slot)


def test_while_a_graph_is_recorded_nothing_is_told(slot: Slot) -> None:
    driver = FakeDriver()
    serving = Serving(slot, driver)
    driver.capturing = True
    serving.begins()
    serving.ends()
    assert not shut(slot)
    assert slot.begun == 0


def test_some_stretches_are_timed_by_the_device(slot: Slot) -> None:
    driver = FakeDriver()
    serving = Serving(slot, driver)
    for _ in range(4 * TIMED_EVERY):
        serving.begins()
        driver.on.issue(3 * MS)
        serving.ends()
        driver.on.move_to(driver.on.now_ns + 10 * MS)
    stretches, total_ns = slot._memory.noted(slot.place)
    assert stretches >= 3
    assert total_ns == stretches * 3 * MS
    assert driver.marks <= 2 * 4
