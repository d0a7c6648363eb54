"""At the gate, under a clock that the test moves."""

from __future__ import annotations

from collections.abc import Callable, Collection

import pytest
from tests.share.gate.fake_driver import FakeDriver
from tests.share.gate.members import Members

from remora.share.gate.in_flight import InFlight
from remora.share.gate.memory import Memory, Slot
from remora.share.gate.waiting import LOOK_NS, Patience, Waiting
from remora.share.policies.registry import parse_choice
from remora.share.system.roster import Roster
from remora.share.system.turns import Turns, policy_of

MS = 1_000_000
LONGEST_NS = 400 * MS


class Scene:
    """A job at the gate of one high-priority job, and what happens while it waits."""

    def __init__(self, roster: Roster, members: Members, policy: str) -> None:
        self.memory = Memory(roster, "cpu")
        slot = self.memory.take(members.join())
        assert slot is not None
        self.slot: Slot = slot
        self.now_ns = 0
        self.plan: list[tuple[int, Callable[[], object]]] = []
        self.sleeps: list[float] = []
        self.stopped: Collection[int] = ()
        self.looks = 0
        turns = Turns(policy_of(parse_choice(policy)), LONGEST_NS, 0)
        self.waiting = Waiting(
            self.memory, turns, self.look, now_ns=lambda: self.now_ns, sleep_s=self.sleep
        )

    def look(self) -> Collection[int]:
        self.looks += 1
        return self.stopped

    def at(self, at_ns: int, happens: Callable[[], object]) -> None:
        self.plan.append((at_ns, happens))

    def sleep(self, seconds: float) -> None:
        self.sleeps.append(seconds)
        self.now_ns += max(1000, round(seconds * 1e9))
        for event in [each for each in self.plan if each[0] <= self.now_ns]:
            self.plan.remove(event)
            event[1]()

    def passes_at(self, now_ns: int | None = None) -> int:
        """When it passes that comes at ``now_ns``."""
        if now_ns is not None:
            self.now_ns = now_ns
        self.waiting.passing()
        return self.now_ns


@pytest.fixture
def scene(roster: Roster, members: Members) -> Scene:
    return Scene(roster, members, "priority+min-wait:min-wait=1ms")


def test_an_open_gate_is_passed_at_once(scene: Scene) -> None:
    assert scene.passes_at(5) == 5
    assert scene.sleeps == []


def test_it_waits_for_the_end_of_a_request_and_the_wait_behind_it(scene: Scene) -> None:
    scene.passes_at(0)
    scene.slot.begin()
    scene.at(20 * MS, scene.slot.open)
    assert 21 * MS <= scene.passes_at(1 * MS) <= 21 * MS + 200_000
    assert max(scene.sleeps) <= 200e-6
    assert scene.waiting.waited_ns >= 20 * MS


def test_a_request_that_was_over_before_it_came_keeps_it_for_the_wait(scene: Scene) -> None:
    scene.passes_at(0)
    scene.slot.begin()
    scene.slot.open()
    assert scene.passes_at(5 * MS) == 6 * MS


def test_one_that_was_under_way_when_it_first_came_keeps_it(
    roster: Roster, members: Members
) -> None:
    before = Memory(roster, "cpu").take(members.join())
    assert before is not None
    before.begin()
    scene = Scene(roster, members, "priority")
    scene.at(3 * MS, before.open)
    assert scene.passes_at(0) >= 3 * MS


def test_a_request_after_the_other_keeps_it_until_the_last_is_over(scene: Scene) -> None:
    scene.passes_at(0)
    scene.slot.begin()
    scene.at(2 * MS, scene.slot.open)
    scene.at(int(2.5 * MS), scene.slot.begin)
    scene.at(4 * MS, scene.slot.open)
    assert scene.passes_at(1 * MS) >= 5 * MS


def test_a_job_that_never_ends_is_passed_over_until_its_next_request(scene: Scene) -> None:
    scene.passes_at(0)
    scene.slot.begin()
    passed_ns = scene.passes_at(1 * MS)
    assert LONGEST_NS <= passed_ns <= LONGEST_NS + 3 * MS
    assert scene.passes_at(passed_ns + MS) == passed_ns + MS
    scene.slot.begin()
    assert scene.passes_at(passed_ns + 2 * MS) >= passed_ns + LONGEST_NS


def test_a_job_that_died_keeps_nobody_for_longer_than_a_look(scene: Scene) -> None:
    scene.passes_at(0)
    scene.slot.begin()
    look = scene.look

    def found_dead() -> Collection[int]:
        if scene.now_ns > 50 * MS:
            scene.memory.give_back(scene.slot)
        return look()

    scene.waiting._look_around = found_dead
    assert scene.passes_at(1 * MS) <= LOOK_NS + 3 * MS


def test_a_job_that_its_user_has_stopped_keeps_nobody(scene: Scene) -> None:
    scene.passes_at(0)
    scene.slot.begin()
    scene.stopped = [scene.slot.place]
    assert scene.passes_at(1 * MS) <= LOOK_NS + 3 * MS


def test_it_looks_ten_times_a_second_however_often_it_passes(scene: Scene) -> None:
    for now_ns in range(0, 1000 * MS, MS // 2):
        scene.passes_at(now_ns)
    assert scene.looks == 10


def test_ended_nobody_waits(scene: Scene) -> None:
    scene.passes_at(0)
    scene.slot.begin()
    scene.at(3 * MS, scene.waiting.end)
    assert scene.passes_at(1 * MS) <= 4 * MS


def test_sleeps_grow_to_the_longest(roster: Roster, members: Members) -> None:
    scene = Scene(roster, members, "priority")
    scene.slot.begin()
    scene.at(5 * MS, scene.slot.open)
    scene.passes_at(0)
    slept = [each for each in scene.sleeps if each]
    assert slept[0] == 20e-6
    assert slept == sorted(slept)
    assert slept[-1] == Patience().longest_sleep_ns / 1e9
    assert scene.sleeps[0] == 0  # first it only lets others run


def test_with_a_floor_it_gets_its_share_while_another_serves(
    roster: Roster, members: Members
) -> None:
    scene = Scene(roster, members, "priority:floor=10%")
    scene.passes_at(0)
    scene.slot.begin()
    passed, busy_ns = 0, 0
    while scene.now_ns < 100 * MS:
        scene.passes_at()
        passed += 1
        scene.now_ns += MS  # its operator
        busy_ns += MS
    assert 0.05 <= busy_ns / scene.now_ns <= 0.2


def test_rate_control_hears_how_long_requests_take_alone(roster: Roster, members: Members) -> None:
    scene = Scene(roster, members, "rate-control")
    for _ in range(40):
        scene.slot.begin()
        for _ in range(10):
            scene.passes_at(scene.now_ns + MS)
        scene.slot.note(4 * MS)  # what its job has timed
        scene.slot.open()
        scene.passes_at(scene.now_ns + MS)
    assert scene.waiting._turns._policy.rate == 0.01  # type: ignore[attr-defined]


def test_while_it_waits_the_device_is_drained_and_its_operators_seem_no_longer(
    roster: Roster, members: Members
) -> None:
    driver = FakeDriver()
    device, memory = driver.on, Memory(roster, "fake")
    slot = memory.take(members.join())
    assert slot is not None
    cap = InFlight(driver, MS)

    def sleep(seconds: float) -> None:
        device.move_to(device.now_ns + max(1000, round(seconds * 1e9)))
        if device.now_ns > 500 * MS:
            slot.open()

    waiting = Waiting(
        memory, Turns(policy_of(parse_choice("priority")), 10**12, 0), lambda: (),
        in_flight=cap, now_ns=lambda: device.now_ns, sleep_s=sleep,
    )  # fmt: skip

    def run(operators: int) -> None:
        for _ in range(operators):
            waiting.passing()
            device.issue(20_000)
            assert device.in_flight_ns() <= MS + 20_000

    run(1000)
    assert cap.operator_ns == 20_000
    slot.begin()
    run(1)
    assert device.now_ns > 500 * MS
    for _ in range(200):
        run(1)
        assert cap.operator_ns == 20_000
