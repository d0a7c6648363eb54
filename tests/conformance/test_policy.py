"""The contract of a policy, held against every one, whatever happens in whatever order."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    rule,
    run_state_machine_as_test,
)
from tests.share.executor import BEST_EFFORT, HIGH, MS, Executor, Started

from remora.core.errors import BadValue
from remora.share.policies.by_class import ByClass
from remora.share.policies.contract import (
    IDLE,
    Cut,
    Idle,
    Longest,
    Policy,
    Priority,
    Resource,
    Run,
    Unit,
    WaitUntil,
)
from remora.share.policies.registry import POLICIES, create

Make = Callable[[], Policy]
SLICES = {"turnaround_ns": 3 * MS, "min_wait_ns": MS, "unsliced_after_ns": 60 * MS}
FLOORS = {
    f"{name} with a floor": partial(create, name, {"floor": 0.2})
    for name, policy in POLICIES.items()
    if issubclass(policy, ByClass)
}
VARIANTS: dict[str, Make] = {
    **{name: partial(create, name, capacity=1) for name in POLICIES},
    **{name: partial(make, capacity=1) for name, make in FLOORS.items()},
    "slices of 3 ms": partial(create, "priority+slicing", SLICES),
    "slices of 3 ms with a floor": partial(create, "priority+slicing", {**SLICES, "floor": 0.5}),
    "no wait": partial(create, "priority+min-wait", {"min_wait_ns": 0}),
    **{f"{name}, three in flight": partial(create, name, capacity=3) for name in POLICIES},
}

durations = st.integers(1, 50 * MS)
jobs = st.sampled_from(["serve", "serve-2", "train", "train-2"])


def unit_of(job: str, ns: int, deadline_ms: int | None, now_ns: int, cuts: int) -> Unit:
    """``cuts`` ways to slice it, each with 2 % of overhead a piece."""
    deadline_ns = None if deadline_ms is None else now_ns + deadline_ms * MS
    ways = tuple(Cut(2**n, max(1, round(ns * (2**-n + 0.02)))) for n in range(1, cuts + 1))
    priority = HIGH if job.startswith("serve") else BEST_EFFORT
    resource = (Resource.COMPUTE, Resource.MEMORY, Resource.UNKNOWN)[ns % 3]
    return Unit(job, priority, ns, deadline_ns, resource, ways)


class Machine(RuleBasedStateMachine):
    """Jobs come, submit and leave; after every step all that the contract promises holds."""

    def __init__(self, make: Make) -> None:
        super().__init__()
        self.make = make
        self.policy = make()
        self.executor = Executor(self.policy)
        self.judged = 0
        self.backlogged_since_ns: int | None = None

    @rule(
        job=jobs, ns=durations, deadline_ms=st.none() | st.integers(0, 200), cuts=st.integers(0, 5)
    )
    def submit(self, job: str, ns: int, deadline_ms: int | None, cuts: int) -> None:
        self.executor.submit(unit_of(job, ns, deadline_ms, self.executor.now_ns, cuts))

    @rule(job=jobs, ns=durations, count=st.integers(2, 30))
    def submit_more_than_it_can_do(self, job: str, ns: int, count: int) -> None:
        now_ns = self.executor.now_ns
        self.executor.submit(*(unit_of(job, ns, None, now_ns, 2) for _ in range(count)))

    @rule(ns=st.integers(0, 120 * MS))
    def advance(self, ns: int) -> None:
        self.executor.advance(ns)

    @rule(job=jobs)
    def leave(self, job: str) -> None:
        """The floor is counted anew: what was saved for one best-effort job is not another's."""
        self.executor.leave(job)
        if not job.startswith("serve"):
            self.backlogged_since_ns = None

    @invariant()
    def no_more_in_flight_than_the_capacity(self) -> None:
        assert self.policy.in_flight == len(self.executor.flying) <= self.policy.capacity

    @invariant()
    def asking_changes_nothing(self) -> None:
        now_ns = self.executor.now_ns
        first, second = self.policy.next(now_ns), self.policy.next(now_ns)
        assert described(first) == described(second)
        assert not isinstance(first, Run), "settled, and yet more could have started"

    @invariant()
    def work_conserving(self) -> None:
        """A free device waits only behind high-priority work, and only as long as is stated."""
        executor, policy = self.executor, self.policy
        if executor.flying or not executor.waiting:
            return
        assert all(unit.priority is BEST_EFFORT for unit in executor.waiting)
        assert isinstance(executor.decision, WaitUntil)
        assert executor.high_ended_ns is not None
        if not policy.paces:
            assert executor.decision.at_ns <= executor.high_ended_ns + policy.hold_back_ns
        assert executor.decision.at_ns <= executor.high_ended_ns + 100 * MS

    @invariant()
    def what_started_was_right(self) -> None:
        for started in self.executor.log[self.judged :]:
            self._in_order(started)
            self._no_longer_than_said(started)
            self._high_waited_no_longer_than_promised(started)
        self.judged = len(self.executor.log)

    def _in_order(self, started: Started) -> None:
        unit = started.run.unit
        among = [each for each in started.waiting if self._is_ordered_with(each, unit)]
        if self.policy.order == "deadline":
            assert unit is min(among, key=urgency)
        else:
            assert among[0] is unit

    def _is_ordered_with(self, other: Unit, unit: Unit) -> bool:
        if self.policy.order == "class":
            return other.priority is unit.priority
        return self.policy.order == "deadline" or other.job == unit.job

    def _no_longer_than_said(self, started: Started) -> None:
        unit, absent_ns = started.run.unit, started.high_absent_ns
        if unit.priority is BEST_EFFORT:
            absent_ns = 10**12 if absent_ns is None else absent_ns
            assert started.run.expected_ns <= self.policy.longest_run_ns(unit, absent_ns)

    def _high_waited_no_longer_than_promised(self, started: Started) -> None:
        unit = started.run.unit
        if unit.priority is BEST_EFFORT or self.policy.capacity > 1:
            return
        since_ns = self.executor.submitted_ns[unit]
        promised_ns = self.policy.high_wait_ns(
            Longest(
                best_effort_ns=longest(self.executor.log, BEST_EFFORT),
                high_ns=longest(self.executor.log, HIGH),
                ahead_ns=self._busy_ns(HIGH, since_ns, started.at_ns),
            )
        )
        if promised_ns is not None:
            assert self._busy_ns(BEST_EFFORT, since_ns, started.at_ns) <= promised_ns
            assert self._busy_ns(None, since_ns, started.at_ns) == started.at_ns - since_ns

    @invariant()
    def best_effort_gets_its_floor(self) -> None:
        now_ns, executor = self.executor.now_ns, self.executor
        units = [*executor.waiting, *(each.run.unit for each in executor.flying)]
        if not any(unit.priority is BEST_EFFORT for unit in units):
            self.backlogged_since_ns = None
            return
        if self.backlogged_since_ns is None:
            self.backlogged_since_ns = now_ns
        floor = getattr(self.policy.options, "floor", 0.0)
        run_ns = max(  # of all that ever waited: a long one may have been the next, and left
            self.policy.longest_run_ns(unit, 10**12)
            for unit in executor.submitted_ns
            if unit.priority is BEST_EFFORT
        )
        short_ns = run_ns + floor * (longest(executor.log, HIGH) + run_ns)
        got_ns = self._busy_ns(BEST_EFFORT, self.backlogged_since_ns, now_ns)
        assert got_ns >= floor * (now_ns - self.backlogged_since_ns) - short_ns - 1

    def _busy_ns(self, priority: Priority | None, since_ns: int, until_ns: int) -> int:
        """How long the device had work of ``priority`` between the two."""
        total_ns = 0
        for each in self.executor.log:
            if priority is None or each.run.unit.priority is priority:
                end_ns = each.end_ns if each.until_ns < 0 else each.until_ns
                total_ns += max(0, min(end_ns, until_ns) - max(each.at_ns, since_ns))
        return total_ns

    def teardown(self) -> None:
        """The same calls at the same times get the same answers."""
        again = self.make()
        runs: dict[Run, Run] = {}
        for what, subject, now_ns in self.executor.calls:
            if what == "next":
                decision = again.next(now_ns)
                assert described(decision) == described(subject)
                if isinstance(subject, Run) and isinstance(decision, Run):
                    runs[subject] = decision
            else:
                told = runs[subject] if isinstance(subject, Run) else subject
                getattr(again, what)(told, now_ns)


def described(decision: object) -> object:
    if isinstance(decision, Run):
        return decision.unit, decision.begin, decision.end, decision.pieces, decision.expected_ns
    return decision


def urgency(unit: Unit) -> tuple[float, bool]:
    deadline_ns = float("inf") if unit.deadline_ns is None else unit.deadline_ns
    return deadline_ns, unit.priority is BEST_EFFORT


def longest(log: list[Started], priority: Priority) -> int:
    runs = (each.run for each in log if each.run.unit.priority is priority)
    return max((run.expected_ns for run in runs), default=0)


@pytest.mark.parametrize("variant", VARIANTS)
def test_whatever_happens_the_contract_holds(variant: str) -> None:
    run_state_machine_as_test(
        lambda: Machine(VARIANTS[variant]),  # type: ignore[arg-type]
        settings=settings(max_examples=30, stateful_step_count=40, deadline=None),
    )


@pytest.fixture(params=POLICIES)
def policy(request: pytest.FixtureRequest) -> Policy:
    return create(request.param, capacity=1)


def a_unit(job: str = "train", priority: Priority = BEST_EFFORT) -> Unit:
    return Unit(job, priority, MS)


def test_nothing_to_do_is_idle(policy: Policy) -> None:
    assert isinstance(policy.next(0), Idle)


def test_a_full_device_is_given_nothing(policy: Policy) -> None:
    executor = Executor(policy)
    executor.submit(a_unit(), a_unit())
    assert policy.next(0) is IDLE
    assert policy.in_flight == 1


def test_a_job_that_left_frees_its_slot_and_is_forgotten(policy: Policy) -> None:
    executor = Executor(policy)
    executor.submit(a_unit("gone"), a_unit("gone"), a_unit("stays"))
    executor.leave("gone")
    executor.advance(100 * MS)
    assert [job for _, job, _, _ in executor.runs()] == ["gone", "stays"]


def test_a_job_that_left_may_come_again(policy: Policy) -> None:
    executor = Executor(policy)
    executor.submit(a_unit("train"))
    executor.leave("train")
    executor.submit(a_unit("train"))
    executor.advance(MS)
    assert len(executor.log) == 2
    assert policy.in_flight == 0


def test_what_does_not_wait_cannot_start(policy: Policy) -> None:
    with pytest.raises(BadValue, match="start what next\\(\\) answers"):
        policy.started(Run(a_unit()), 0)


def test_more_than_the_capacity_cannot_start(policy: Policy) -> None:
    units = [a_unit(), a_unit()]
    for unit in units:
        policy.submitted(unit, 0)
    policy.started(Run(units[0]), 0)
    with pytest.raises(BadValue, match="as many as may be"):
        policy.started(Run(units[1]), 0)


def test_it_says_what_it_is(policy: Policy) -> None:
    assert POLICIES[policy.name] is type(policy)
    assert policy.title[0].islower()


@pytest.mark.parametrize("name", POLICIES)
def test_a_capacity_of_nothing_is_refused(name: str) -> None:
    with pytest.raises(BadValue, match="choose 1 or more"):
        create(name, capacity=0)
