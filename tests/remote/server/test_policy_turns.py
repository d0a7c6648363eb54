"""Turns by a policy under a clock that the test moves: who runs when, to the nanosecond."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from remora.core.clock import ManualClock
from remora.remote.messages import Failed, Ran
from remora.remote.server.clients import Client
from remora.remote.server.eviction import Eviction
from remora.remote.server.policy_turns import PolicyTurns
from remora.remote.server.sessions import Sessions
from remora.remote.server.units import Ahead, Course
from remora.remote.server.work import Work
from remora.share.policies.contract import Cut, Policy, Priority, Run
from remora.share.policies.registry import create

MS = 1_000_000
HIGH, BEST_EFFORT = Priority.HIGH, Priority.BEST_EFFORT
SERVE, SERVE_TOO = Client(1, HIGH), Client(2, HIGH)
TRAIN, TRAIN_TOO = Client(3), Client(4)


@dataclass(eq=False)
class Request:
    """Comes at a time, and is units of those lengths, which can be cut into so many pieces."""

    client: Client
    at_ns: int
    units_ns: list[int]
    pieces: int = 1
    answered_ns: int | None = None


@dataclass
class Given:
    """What the device was given."""

    request: Request
    begin_ns: int
    end_ns: int


@dataclass
class Bench:
    """A device of a policy: every unit takes what it says, and time passes in no other way."""

    policy: Policy
    clock: ManualClock = field(default_factory=ManualClock)
    log: list[Given] = field(default_factory=list)
    closed: list[Request] = field(default_factory=list)

    def __post_init__(self) -> None:
        eviction = Eviction(torch.device("cpu"), 1 << 20, 0, 0)
        self.turns = PolicyTurns(
            self.policy, self._course, Sessions(eviction, self.clock, lease_s=1, most=1), self.clock
        )
        self.requests: dict[Work, Request] = {}
        self.replies: list[Any] = []
        self.to_come: list[Request] = []

    def come(self, request: Request) -> Work:
        def answer(reply: object, tensors: object) -> None:
            request.answered_ns = self.clock.now_ns
            self.replies.append(reply)

        work = Work(answer, request.at_ns, 0, False, client=request.client)
        self.requests[work] = request
        self.turns.add(work)  # type: ignore[arg-type]
        return work

    def run(self, requests: list[Request], until_ns: int = 10**15) -> None:
        """Let ``requests`` come when they do, until all is done or it is ``until_ns``."""
        self.to_come = waiting = sorted(requests, key=lambda request: request.at_ns)
        while self.clock.now_ns < until_ns:
            self._arrive()
            rest_s = self.turns.turn()
            if not rest_s:
                continue
            if not waiting and not self.turns.works():
                return
            rest_ns = max(1, round(rest_s * 1e9))
            until = min([waiting[0].at_ns] if waiting else [until_ns])
            self.clock.now_ns = max(self.clock.now_ns, min(self.clock.now_ns + rest_ns, until))

    def _arrive(self) -> None:
        while self.to_come and self.to_come[0].at_ns <= self.clock.now_ns:
            self.come(self.to_come.pop(0))

    def _course(self, work: Any) -> Course:
        request = self.requests[work]
        return self._units(work, request)

    def _units(self, work: Work, request: Request) -> Generator[Ahead, Run, None]:
        try:
            for ns in request.units_ns:
                cut = Cut(request.pieces, -(-ns // request.pieces))
                ahead = Ahead(ns, (cut,) if request.pieces > 1 else ())
                run = yield ahead
                while True:
                    begin_ns = self.clock.now_ns
                    self.clock.advance(-(-ns // run.pieces) * (run.end - run.begin))
                    self.log.append(Given(request, begin_ns, self.clock.now_ns))
                    self._arrive()
                    if run.is_last:
                        break
                    run = yield ahead
        except GeneratorExit:
            self.closed.append(request)
            raise
        work.answer(Ran(), [])


lengths = st.lists(st.integers(1, 20 * MS), min_size=1, max_size=5)
moments = st.integers(0, 200 * MS)
serving = st.builds(Request, st.sampled_from([SERVE, SERVE_TOO]), moments, lengths)
training = st.builds(
    Request, st.sampled_from([TRAIN, TRAIN_TOO]), moments, lengths, st.sampled_from([1, 4, 16])
)
both = st.lists(serving | training, min_size=1, max_size=25)

POLICIES = {
    "priority": {},
    "priority+min-wait": {"min_wait_ns": 2 * MS},
    "priority+slicing": {"turnaround_ns": 2 * MS, "min_wait_ns": MS, "unsliced_after_ns": 10**12},
}


@pytest.mark.parametrize("name", POLICIES)
@given(both)
@settings(max_examples=150, deadline=None)
def test_best_effort_keeps_high_priority_waiting_for_one_run_at_most(
    name: str, requests: list[Request]
) -> None:
    bench = Bench(create(name, POLICIES[name], capacity=1))
    bench.run(requests)

    assert all(request.answered_ns is not None for request in requests)
    for request in (each for each in requests if each.client.priority is HIGH):
        begin_ns = request.at_ns
        end_ns = request.answered_ns or 0
        beside = [
            each
            for each in bench.log
            if each.request.client.priority is BEST_EFFORT
            and each.end_ns > begin_ns
            and each.begin_ns < end_ns
        ]
        assert all(each.begin_ns <= begin_ns for each in beside)  # it was there already
        assert len(beside) <= 1


@pytest.mark.parametrize("name", POLICIES)
@given(both)
@settings(max_examples=150, deadline=None)
def test_best_effort_waits_for_its_wait_and_for_no_longer(
    name: str, requests: list[Request]
) -> None:
    bench = Bench(create(name, POLICIES[name], capacity=1))
    bench.run(requests)

    wait_ns = POLICIES[name].get("min_wait_ns", 0)
    for before, after in zip(bench.log, bench.log[1:], strict=False):
        idle_ns = after.begin_ns - before.end_ns
        if before.request.client.priority is HIGH and after.request.client is TRAIN:
            assert idle_ns >= wait_ns
        came_ns = max(after.request.at_ns, before.end_ns)
        assert after.begin_ns - came_ns <= wait_ns


@pytest.mark.parametrize("name", ["fifo", "priority", "priority+slicing"])
@given(both)
@settings(max_examples=100, deadline=None)
def test_requests_of_one_client_come_one_after_another(name: str, requests: list[Request]) -> None:
    bench = Bench(create(name, capacity=1))
    bench.run(requests)

    for client in (SERVE, SERVE_TOO, TRAIN, TRAIN_TOO):
        own = [each for each in bench.log if each.request.client is client]
        ends = [each.request.answered_ns for each in own]
        assert ends == sorted(ends, key=lambda ns: ns or 0)
        assert [each.begin_ns for each in own] == sorted(each.begin_ns for each in own)


def test_first_come_is_first_served_also_while_a_unit_runs() -> None:
    bench = Bench(create("fifo", capacity=1))
    bench.run([Request(TRAIN, 0, [10 * MS] * 3), Request(SERVE, MS, [MS] * 2)])
    assert [each.request.client.number for each in bench.log] == [3, 1, 3, 1, 3]


def test_units_that_are_cut_are_interrupted() -> None:
    slicing = create("priority+slicing", POLICIES["priority+slicing"], capacity=1)
    bench = Bench(slicing)
    serve = [Request(SERVE, 0, [MS]), Request(SERVE, 5 * MS, [MS])]
    bench.run([*serve, Request(TRAIN, MS, [16 * MS], pieces=16)])
    assert serve[1].answered_ns is not None
    assert serve[1].answered_ns <= 5 * MS + MS + MS  # it waits for one slice
    assert len(bench.log) == 2 + 16


def test_what_is_cancelled_gets_no_more_of_the_device() -> None:
    bench = Bench(create("priority", capacity=1))
    lost, other = Request(TRAIN, 0, [5 * MS] * 10), Request(TRAIN_TOO, 0, [5 * MS] * 3)
    work = bench.come(lost)
    bench.come(other)
    bench.turns.turn()
    work.cancelled = True
    bench.turns.cancelled(work)
    bench.run([], until_ns=100 * MS)
    assert len([each for each in bench.log if each.request is lost]) == 1
    assert bench.closed == [lost]
    assert lost.answered_ns is None
    assert other.answered_ns == 20 * MS


def test_a_client_that_leaves_has_its_queue_dropped() -> None:
    bench = Bench(create("fifo", capacity=1))
    works = [bench.come(Request(TRAIN, 0, [5 * MS] * 2)) for _ in range(5)]
    stays = Request(SERVE, 0, [MS])
    bench.turns.turn()
    bench.come(stays)
    for work in works:
        work.cancelled = True
        bench.turns.cancelled(work)
    bench.turns.left(TRAIN)
    bench.turns._hear(bench.clock.now_ns)
    decision = bench.policy.next(bench.clock.now_ns)
    assert isinstance(decision, Run)
    assert decision.unit.job == SERVE.job  # the policy knows that the other is gone
    bench.run([])
    assert stays.answered_ns == 6 * MS  # behind the unit that ran, and nothing else
    assert len(bench.log) == 2
    assert [counts.left for counts in bench.turns.counts()] == [True, False]


def test_what_fails_ends_alone() -> None:
    bench = Bench(create("priority", capacity=1))
    failing, other = Request(TRAIN, 0, [MS, -1]), Request(TRAIN_TOO, 0, [MS] * 2)
    work = bench.come(failing)
    bench.turns._course = _failing_for(bench, work)
    bench.run([other])
    assert [reply.text for reply in bench.replies if isinstance(reply, Failed)] == ["no"]
    assert other.answered_ns is not None


def _failing_for(bench: Bench, work: Work) -> Any:
    well = bench._course

    def course(asked: Work) -> Course:
        if asked is not work:
            yield from well(asked)
            return
        yield Ahead(MS)
        raise ValueError("no")

    return course


def test_what_each_client_was_given_is_counted() -> None:
    bench = Bench(create("priority", capacity=1))
    bench.run([Request(TRAIN, 0, [10 * MS] * 2), Request(SERVE, 4 * MS, [MS] * 2)])
    train, serve = bench.turns.counts()
    assert (train.number, train.priority, train.requests, train.units) == (3, "best-effort", 1, 2)
    assert train.device_ns == 20 * MS
    assert (serve.number, serve.priority, serve.requests, serve.units) == (1, "high", 1, 2)
    assert serve.device_ns == 2 * MS
    assert serve.turnaround.count == 2
    assert serve.turnaround.most_ns == 6 * MS  # behind the rest of one best-effort unit
    assert serve.turnaround.p50_ns == 0
    assert serve.response.most_ns == 8 * MS
