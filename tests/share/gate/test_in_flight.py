"""What is in flight on a device stays within the bound, and the device is not left idle."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tests.share.gate.fake_driver import FakeDriver

from remora.core.errors import BadValue
from remora.share.gate.in_flight import MOST_OPERATORS, InFlight

US, MS = 1_000, 1_000_000
BOUND_NS = MS


class Program:
    """Issues operators, each after a moment of the program's own."""

    def __init__(self, bound_ns: int = BOUND_NS) -> None:
        self.driver = FakeDriver()
        self.device = self.driver.on
        self.cap = InFlight(self.driver, bound_ns)
        self.worst_ns = 0

    def run(self, operators: int, takes_ns: Callable[[int], int], issue_ns: int) -> None:
        self.worst_ns = 0
        for number in range(operators):
            self.device.move_to(self.device.now_ns + issue_ns)
            self.cap.make_room()
            self.device.issue(takes_ns(number))
            self.cap.issue()
            self.worst_ns = max(self.worst_ns, self.device.in_flight_ns())


@example(takes_ns=600 * US, issue_ns=1)
@example(takes_ns=3 * MS, issue_ns=1)
@example(takes_ns=1, issue_ns=1)
@given(takes_ns=st.integers(1, 5 * MS), issue_ns=st.integers(1, 200 * US))
def test_in_flight_is_never_more_than_the_bound_and_one_operator(
    takes_ns: int, issue_ns: int
) -> None:
    program = Program()
    program.run(200, lambda _: takes_ns, issue_ns)  # from the first on: nothing is known then
    assert program.worst_ns <= BOUND_NS + takes_ns
    program.run(200, lambda _: takes_ns, issue_ns)
    assert program.worst_ns <= BOUND_NS + takes_ns


@given(
    short_ns=st.integers(1 * US, 300 * US),
    long_ns=st.integers(1 * US, 300 * US),
    issue_ns=st.integers(1, 50 * US),
)
def test_once_longer_operators_follow_it_is_back_within_the_bound(
    short_ns: int, long_ns: int, issue_ns: int
) -> None:
    program = Program()
    program.run(300, lambda _: short_ns, issue_ns)
    queued = BOUND_NS // short_ns + 3 * MOST_OPERATORS  # until then none is seen
    program.run(queued, lambda _: long_ns, issue_ns)
    program.run(300, lambda _: long_ns, issue_ns)
    assert program.worst_ns <= BOUND_NS + long_ns


@pytest.mark.parametrize("takes_us", [10, 40, 100, 300])
def test_the_device_is_kept_busy_where_the_program_is_fast_enough(takes_us: int) -> None:
    program = Program()
    program.run(500, lambda _: takes_us * US, issue_ns=US)
    began_ns = program.device.now_ns
    program.run(500, lambda _: takes_us * US, issue_ns=US)
    assert 500 * takes_us * US >= 0.97 * (program.device.now_ns - began_ns)


def test_marks_lie_about_half_the_bound_apart() -> None:
    program = Program()
    program.run(500, lambda _: 20 * US, issue_ns=US)
    assert 20 <= program.cap.stretch <= 25
    before = program.driver.marks
    program.run(1000, lambda _: 20 * US, issue_ns=US)
    assert program.driver.marks - before <= 1000 / 20 + 2


def test_short_operators_are_not_marked_each() -> None:
    program = Program()
    program.run(2000, lambda _: 1, issue_ns=US)
    assert program.cap.stretch == MOST_OPERATORS


def test_a_wait_at_the_gate_is_not_taken_for_long_operators() -> None:
    program = Program()
    program.run(500, lambda _: 20 * US, issue_ns=US)
    known = program.cap.operator_ns
    for _ in range(5):
        program.cap.make_room()
        program.cap.pause()
        program.device.move_to(program.device.now_ns + 100 * MS)
        program.cap.go_on()
        program.device.issue(20 * US)
        program.cap.issue()
        program.run(100, lambda _: 20 * US, issue_ns=US)
    assert program.cap.operator_ns <= 1.5 * known


def test_nothing_is_marked_while_a_graph_is_recorded() -> None:
    program = Program()
    program.run(50, lambda _: 20 * US, issue_ns=US)
    program.device.move_to(program.device.behind("a"))  # as torch does before
    program.driver.capturing = True
    for _ in range(1000):  # of which the device does none
        program.cap.make_room()
        program.cap.issue()
    program.driver.capturing = False
    program.run(500, lambda _: 20 * US, issue_ns=US)
    assert program.worst_ns <= BOUND_NS + 20 * US


def test_a_bound_of_nothing_is_refused() -> None:
    with pytest.raises(BadValue, match=r"choose 0.1ms or more"):
        InFlight(FakeDriver(), 0)
