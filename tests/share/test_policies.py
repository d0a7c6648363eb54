"""What each policy does of its own, as the log of what started when."""

from __future__ import annotations

from itertools import pairwise

import pytest
from tests.share.executor import BEST_EFFORT, HIGH, MS, Executor, best_effort, high

from remora.core.errors import BadValue, UnknownName
from remora.share.policies.by_class import ByClass
from remora.share.policies.contract import Idle, Longest, Resource, Run, Unit, WaitUntil, whole
from remora.share.policies.rate_control import RateControl
from remora.share.policies.registry import POLICIES, Choice, create, names, parse_choice

FLOORED = [name for name, policy in POLICIES.items() if issubclass(policy, ByClass)]


def executor(name: str, capacity: int = 1, **options: int | float) -> Executor:
    return Executor(create(name, options, capacity=capacity))


def closed_loop(running: Executor, unit_ns: int, for_ns: int, step_ns: int = MS // 2) -> None:
    """A best-effort job that always has one unit waiting or in flight."""
    for _ in range(0, for_ns, step_ns):
        units = [*running.waiting, *(each.run.unit for each in running.flying)]
        if not any(unit.priority is BEST_EFFORT for unit in units):
            running.submit(best_effort(unit_ns))
        running.advance(step_ns)


# ------------------------------------------------- fifo, turns, deadlines


def test_fifo_lets_high_priority_wait_behind_all_that_came_before() -> None:
    running = executor("fifo")
    running.submit(best_effort(), best_effort(), high())
    running.advance(200 * MS)
    assert running.runs() == [(0, "train", 0, 1), (44, "train", 0, 1), (88, "serve", 0, 1)]


def test_turns_are_as_long_as_their_quantum_and_end_with_a_unit() -> None:
    running = executor("round-robin", quantum_ns=5 * MS)
    running.submit(*(best_effort(2 * MS, "a") for _ in range(5)))
    running.submit(*(best_effort(2 * MS, "b") for _ in range(4)))
    running.advance(100 * MS)
    assert "".join(job for _, job, _, _ in running.runs()) == "aaabbbaab"


def test_a_job_alone_goes_on_turn_after_turn() -> None:
    running = executor("round-robin", quantum_ns=1)
    running.submit(*(best_effort(MS, "a") for _ in range(3)))
    running.advance(3 * MS)
    assert [at for at, *_ in running.runs()] == [0, 1, 2]


def test_the_earliest_deadline_goes_first_whatever_its_class() -> None:
    running = executor("earliest-deadline")
    late, soon = high(MS, deadline_ns=100 * MS), high(MS, "soon", deadline_ns=9 * MS)
    due = Unit("due", BEST_EFFORT, MS, 50 * MS)
    running.submit(best_effort(MS, "first"))
    running.submit(best_effort(MS, "never"), high(MS, "none"), late, due, soon)
    running.advance(100 * MS)
    order = [job for _, job, _, _ in running.runs()]
    assert order == ["first", "soon", "due", "serve", "none", "never"]


# ------------------------------------------------- priority, waiting, slices


def test_priority_fills_the_gap_between_two_units_of_a_request() -> None:
    running = executor("priority")
    running.submit(high(MS), best_effort())
    running.advance(MS)
    running.submit(high(MS))
    running.advance(100 * MS)
    assert running.runs() == [(0, "serve", 0, 1), (1, "train", 0, 1), (45, "serve", 0, 1)]


def test_a_wait_leaves_that_gap_alone() -> None:
    running = executor("priority+min-wait", min_wait_ns=MS // 10)
    running.submit(high(MS), best_effort())
    running.advance(MS + MS // 20)
    running.submit(high(MS))
    running.advance(100 * MS)
    assert running.runs() == [(0, "serve", 0, 1), (1.05, "serve", 0, 1), (2.15, "train", 0, 1)]


def test_nothing_waits_where_no_high_priority_job_ever_was() -> None:
    running = executor("priority+min-wait", min_wait_ns=50 * MS)
    running.submit(best_effort())
    assert running.runs() == [(0, "train", 0, 1)]


def test_the_wait_begins_when_the_high_priority_job_leaves_with_work_waiting() -> None:
    running = executor("priority+min-wait", min_wait_ns=MS)
    running.submit(best_effort(10 * MS, "first"))
    running.submit(high(), best_effort(MS))
    running.advance(5 * MS)
    running.leave("serve")
    running.leave("first")
    running.advance(10 * MS)
    assert running.runs() == [(0, "first", 0, 1), (6, "train", 0, 1)]


def test_slices_are_as_few_as_keep_the_bound_and_each_is_decided_anew() -> None:
    running = executor("priority+slicing", turnaround_ns=12 * MS, min_wait_ns=MS)
    running.submit(high(MS), best_effort(44 * MS, "train", 23 * MS, 12 * MS, 7 * MS))
    running.advance(3 * MS)
    running.submit(high(MS))
    running.advance(100 * MS)
    slices = [(2, "train", 0, 1), (16, "train", 1, 2), (28, "train", 2, 3), (40, "train", 3, 4)]
    assert running.runs() == [(0, "serve", 0, 1), slices[0], (14, "serve", 0, 1), *slices[1:]]


def test_what_is_left_of_a_unit_runs_at_once_when_nobody_has_come_for_long() -> None:
    running = executor(
        "priority+slicing", turnaround_ns=12 * MS, min_wait_ns=0, unsliced_after_ns=20 * MS
    )
    running.submit(high(MS), best_effort(44 * MS, "train", 23 * MS, 12 * MS))
    running.submit(best_effort(40 * MS, "train", 21 * MS, 11 * MS))
    running.advance(200 * MS)
    assert running.runs()[1:] == [
        (1, "train", 0, 1), (13, "train", 1, 2), (25, "train", 2, 4), (49, "train", 0, 1)
    ]  # fmt: skip


def test_the_rest_of_a_unit_may_take_longer_than_the_whole_and_that_is_said() -> None:
    running = executor(
        "priority+slicing", turnaround_ns=12 * MS, min_wait_ns=0, unsliced_after_ns=5 * MS
    )
    unit = best_effort(30 * MS, "train", 20 * MS, 12 * MS)
    running.submit(high(MS), unit)
    running.advance(100 * MS)
    assert running.runs()[1:] == [(1, "train", 0, 1), (13, "train", 1, 4)]
    assert running.log[-1].run.expected_ns == 36 * MS
    assert running.policy.longest_run_ns(unit) == 12 * MS
    assert running.policy.longest_run_ns(unit, 5 * MS) == 36 * MS


@pytest.mark.parametrize(
    ("unit", "pieces", "keeps"),
    [
        (best_effort(3 * MS, "train", 2 * MS), 1, True),
        (best_effort(44 * MS, "train", 23 * MS, 3 * MS, 2 * MS), 4, True),
        (best_effort(44 * MS, "train", 23 * MS, 12 * MS), 4, False),
        (best_effort(44 * MS, "train", 50 * MS), 1, False),
        (best_effort(44 * MS), 1, False),
        (best_effort(0), 1, False),
        (best_effort(0, "train", 5 * MS), 2, False),
    ],
)
def test_a_unit_that_cannot_keep_the_bound_says_so(unit: Unit, pieces: int, keeps: bool) -> None:
    running = executor("priority+slicing", turnaround_ns=3 * MS, min_wait_ns=0)
    running.submit(high(MS), unit)
    running.advance(MS)
    run = running.log[1].run
    assert (run.pieces, run.within_bound) == (pieces, keeps)


# ------------------------------------------------- the floor


@pytest.mark.parametrize("name", FLOORED)
def test_a_floor_is_kept_where_high_priority_work_never_ends(name: str) -> None:
    running = executor(name, floor=0.25)
    running.submit(*(high(10 * MS) for _ in range(200)))
    closed_loop(running, 5 * MS, 1000 * MS)
    got_ns = sum(s.run.expected_ns for s in running.log if s.run.unit.priority is BEST_EFFORT)
    assert 235 * MS <= got_ns <= 250 * MS


@pytest.mark.parametrize("name", FLOORED)
def test_without_a_floor_it_may_get_nothing(name: str) -> None:
    running = executor(name)
    running.submit(*(high(10 * MS) for _ in range(200)))
    closed_loop(running, 5 * MS, 1000 * MS)
    assert {each.run.unit.priority for each in running.log} == {HIGH}


def test_an_idle_night_is_no_debt_in_the_morning() -> None:
    running = executor("priority", floor=0.5)
    closed_loop(running, 5 * MS, 500 * MS)
    morning_ns = running.now_ns
    running.submit(*(high(10 * MS) for _ in range(20)))
    closed_loop(running, 5 * MS, 60 * MS)
    first = next(
        s.at_ns for s in running.log
        if s.at_ns > morning_ns + 5 * MS and s.run.unit.priority is BEST_EFFORT
    )  # fmt: skip
    assert first <= morning_ns + 20 * MS


def test_what_was_saved_for_a_long_run_is_not_spent_on_many_short_ones() -> None:
    running = executor("priority", floor=0.5)
    running.submit(*(high(10 * MS) for _ in range(20)))
    running.submit(best_effort(100 * MS, "long"))
    running.advance(95 * MS)
    running.leave("long")
    running.submit(*(best_effort(MS, "short") for _ in range(40)))
    running.advance(20 * MS)
    jobs = [job for at, job, _, _ in running.runs() if at >= 95]
    assert jobs.count("short") <= 7  # half the time, and one run; 16 with what was saved


def test_what_a_floor_costs_is_said() -> None:
    assert create("priority").high_wait_ns(Longest(44 * MS)) == 44 * MS
    floored = create("priority", {"floor": 0.5})
    assert floored.high_wait_ns(Longest(44 * MS)) == (44 + 22) * 2 * MS
    longest = Longest(44 * MS, high_ns=10 * MS, ahead_ns=20 * MS)
    assert floored.high_wait_ns(longest) == (44 + 37) * 2 * MS
    assert create("fifo").high_wait_ns(longest) is None


@pytest.mark.parametrize(("ahead", "least_ms"), [(1, 18), (3, 18), (10, 60), (30, 190)])
def test_what_a_floor_costs_is_true(ahead: int, least_ms: int) -> None:
    """The worst that can be arranged comes close to what is said, and not beyond."""
    worst_ns = 0
    for offset in range(0, 100, 3):
        running = executor("priority", floor=0.4)
        running.submit(high(10 * MS))
        closed_loop(running, 20 * MS, offset * MS)
        running.submit(*(high(10 * MS, "ahead") for _ in range(ahead)), asked := high(MS))
        closed_loop(running, 20 * MS, 600 * MS)
        at_ns = next(s.at_ns for s in running.log if s.run.unit is asked)
        worst_ns = max(worst_ns, at_ns - running.submitted_ns[asked] - ahead * 10 * MS)
    longest = Longest(20 * MS, 10 * MS, ahead * 10 * MS)
    said_ns = create("priority", {"floor": 0.4}).high_wait_ns(longest)
    assert said_ns is not None
    assert least_ms * MS < worst_ns <= said_ns


# ------------------------------------------------- rate control


def test_the_rate_falls_when_high_priority_work_is_kept_waiting_and_rises_again() -> None:
    policy = create("rate-control", {"window_ns": 50 * MS})
    assert isinstance(policy, RateControl)
    running, rates = Executor(policy), []
    for _ in range(100):  # a unit of 1 ms every 5 ms, beside best-effort units of 3 ms
        running.submit(high(MS))
        closed_loop(running, 3 * MS, 5 * MS)
        rates.append(policy.rate)
    steps = list(pairwise(rates))
    assert any(after > before for before, after in steps)
    assert any(after == pytest.approx(before / 2) for before, after in steps)
    assert max(rates) < 0.5


def test_the_rate_rises_to_all_where_nobody_is_kept_waiting() -> None:
    policy = create("rate-control", {"window_ns": 10 * MS})
    assert isinstance(policy, RateControl)
    running = Executor(policy)
    for _ in range(60):
        running.submit(high(9 * MS))
        running.advance(10 * MS)
    assert policy.rate == 1.0


def test_best_effort_work_is_paced_only_while_somebody_is_there() -> None:
    policy = create("rate-control", {"least_rate": 0.25, "unpaced_after_ns": 100 * MS})
    running = Executor(policy)
    running.submit(high(MS))
    running.advance(MS)
    closed_loop(running, 10 * MS, 150 * MS)
    starts = [at for at, job, _, _ in running.runs() if job == "train"]
    assert starts[:6] == [1, 41, 81, 101, 111, 121]


# ------------------------------------------------- complementary


def beside(unit: Unit, **options: int | float) -> bool:
    """Whether ``unit`` is started beside a high-priority unit that computes."""
    running = executor("complementary", capacity=2, **options)
    running.submit(high(10 * MS))
    running.submit(unit)
    return len(running.flying) == 2


def test_only_what_complements_runs_beside_and_only_so_much() -> None:
    assert beside(Unit("train", BEST_EFFORT, MS, None, Resource.MEMORY))
    assert not beside(Unit("train", BEST_EFFORT, MS, None, Resource.COMPUTE))
    assert not beside(Unit("train", BEST_EFFORT, MS, None, Resource.UNKNOWN))
    assert not beside(Unit("train", BEST_EFFORT, 2 * MS, None, Resource.MEMORY))
    assert beside(Unit("train", BEST_EFFORT, 2 * MS, None, Resource.MEMORY), in_flight_ns=2 * MS)
    assert not beside(Unit("train", BEST_EFFORT, 0, None, Resource.MEMORY))


def test_a_slot_is_kept_for_whoever_comes_next() -> None:
    running = executor("complementary", capacity=3)
    running.submit(*(best_effort(MS // 4, "train") for _ in range(5)))
    assert len(running.flying) == 2
    running.submit(high())
    assert len(running.flying) == 3


# ------------------------------------------------- names and options


def test_every_policy_has_its_name() -> None:
    assert names() == [
        "fifo", "round-robin", "priority", "priority+min-wait", "priority+slicing",
        "rate-control", "complementary", "earliest-deadline",
    ]  # fmt: skip


def test_a_choice_is_read_as_people_write_it() -> None:
    choice = parse_choice("priority+slicing:turnaround=1ms, floor=10%,min-wait=0")
    assert choice == Choice(
        "priority+slicing", {"turnaround_ns": MS, "floor": 0.1, "min_wait_ns": 0}
    )
    assert str(parse_choice("fifo")) == "fifo"
    assert str(choice) == "priority+slicing:turnaround=1ms,floor=10%,min-wait=0"


@pytest.mark.parametrize(
    ("text", "error", "says"),
    [
        ("priorty", UnknownName, "did you mean 'priority'"),
        ("", UnknownName, "choose from: complementary, earliest-deadline, fifo"),
        ("fifo:floor=1%", UnknownName, "option of policy fifo 'floor'; choose from: none"),
        ("priority:flor=1%", UnknownName, "did you mean 'floor'"),
        ("priority:floor", BadValue, "write floor=VALUE"),
        ("priority:floor=100%", BadValue, "below 1"),
        ("priority:floor=x", BadValue, "write it as '5%'"),
        ("priority+min-wait:min-wait=x", BadValue, "is not a duration"),
        ("priority+slicing:turnaround=0", BadValue, "no run is that short"),
        ("priority+slicing:unsliced-after=0", BadValue, "nothing would be sliced"),
        ("round-robin:quantum=0", BadValue, "choose a positive one"),
        ("rate-control:window=0", BadValue, "window=0 ns"),
        ("rate-control:decrease=2", BadValue, "choose a share between 0 and 1"),
        ("complementary:in-flight=0", BadValue, "nothing run beside"),
    ],
)
def test_what_cannot_be_is_refused_by_name(
    text: str, error: type[BadValue | UnknownName], says: str
) -> None:
    with pytest.raises(error) as raised:
        parse_choice(text)
    assert says in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("name", "options"),
    [("priority", {"floor": -0.1}), ("priority+min-wait", {"min_wait_ns": -1})],
)
def test_negative_options_are_refused(name: str, options: dict[str, float]) -> None:
    with pytest.raises(BadValue):
        create(name, options)


def test_the_answers_are_told_apart_by_their_kind() -> None:
    policy = create("priority+min-wait")
    assert isinstance(policy.next(0), Idle)
    policy.submitted(unit := high(MS), 0)
    run = policy.next(0)
    assert isinstance(run, Run)
    assert run.unit is unit
    policy.started(run, 0)
    policy.submitted(best_effort(), 0)
    policy.finished(run, MS)
    assert policy.next(MS) == WaitUntil(MS + MS // 10)
    assert whole(unit).is_last
