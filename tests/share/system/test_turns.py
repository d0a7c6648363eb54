"""A best-effort job's turns: never beside a job that serves, and never stopped for good."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remora.core.errors import BadValue, UnknownName
from remora.share.policies.registry import names
from remora.share.policies.registry import parse_choice as parse_policy
from remora.share.system.mechanisms.registry import parse_choice
from remora.share.system.turns import ONE_BEST_EFFORT, Turns, policy_of

WAIT, LONGEST = 1_000, 50_000
EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["begins", "ends", "left"]), st.sampled_from("abc"), st.integers(0, 9_000)
    ),
    max_size=60,
)


WAITS = f"priority+min-wait:min-wait={WAIT / 1e6}ms"


def turns_of(policy: str = WAITS, longest_ns: int = LONGEST) -> Turns:
    return Turns(policy_of(parse_policy(policy)), longest_ns, 0)


def test_it_runs_where_nobody_serves() -> None:
    assert turns_of().may_run(0) == (True, None)


def test_it_stops_at_once_and_goes_on_after_the_wait() -> None:
    turns = turns_of()
    turns.begins("serve", 100)
    assert turns.may_run(100) == (False, LONGEST)
    turns.ends("serve", 600)
    assert turns.may_run(700) == (False, 600 + WAIT)
    assert turns.may_run(600 + WAIT) == (True, None)


def test_a_killed_job_does_not_keep_it() -> None:
    turns = turns_of()
    turns.begins("serve", 100)
    turns.left("serve", 200)
    assert turns.may_run(200 + WAIT)[0]


def test_one_that_never_ends_keeps_it_for_so_long_and_no_longer() -> None:
    turns = turns_of()
    turns.may_run(0)
    turns.begins("serve", 100)
    assert turns.may_run(99 + LONGEST) == (False, 100 + LONGEST)
    turns.may_run(100 + LONGEST)
    assert turns.may_run(100 + LONGEST + WAIT) == (True, None)
    turns.begins("serve", 200_000)
    assert not turns.may_run(200_000)[0]


@given(EVENTS)
def test_it_never_runs_beside_one_that_serves_and_is_never_stopped_for_good(
    events: list[tuple[str, str, int]],
) -> None:
    turns, now_ns, serving = turns_of(), 0, dict[str, int]()
    stopped_since: int | None = None
    for event, job, pause_ns in events:
        now_ns += pause_ns
        getattr(turns, event)(job, now_ns)
        serving.pop(job, None) if event != "begins" else serving.setdefault(job, now_ns)
        runs, again_ns = turns.may_run(now_ns)
        serving = {each: began for each, began in serving.items() if each in turns.serving}
        assert not (runs and serving)
        assert runs or (again_ns is not None and again_ns > now_ns)
        stopped_since = None if runs else now_ns if stopped_since is None else stopped_since
    for _ in range(3):
        runs, again_ns = turns.may_run(now_ns)
        now_ns = again_ns or now_ns
    assert turns.may_run(now_ns)[0]


@pytest.mark.parametrize("policy", ONE_BEST_EFFORT)
@given(EVENTS)
def test_by_any_policy_it_is_never_stopped_for_good(
    policy: str, events: list[tuple[str, str, int]]
) -> None:
    turns, now_ns = turns_of(policy), 0
    for event, job, pause_ns in events:
        now_ns += pause_ns
        getattr(turns, event)(job, now_ns)
        turns.asks_anew(now_ns)
        runs, again_ns = turns.may_run(now_ns)
        assert runs or (again_ns is not None and again_ns > now_ns)
    for _ in range(100):
        runs, again_ns = turns.may_run(now_ns)
        now_ns = again_ns or now_ns
    assert turns.may_run(now_ns)[0]


@pytest.mark.parametrize("policy", ["priority", "priority+slicing:min-wait=0"])
def test_without_a_wait_it_goes_on_at_once(policy: str) -> None:
    turns = turns_of(policy)
    turns.begins("serve", 100)
    assert not turns.may_run(100)[0]
    turns.ends("serve", 600)
    assert turns.may_run(600)[0]


def test_under_slicing_it_runs_whole_once_nobody_has_served_for_long() -> None:
    turns = turns_of("priority+slicing:unsliced-after=1ms")
    assert turns.runs_whole(5)
    turns.begins("serve", 100)
    assert not turns.runs_whole(5_000_000)
    turns.ends("serve", 6_000_000)
    assert not turns.runs_whole(6_999_999)
    assert turns.runs_whole(7_000_000)


def test_with_a_floor_it_runs_while_another_serves() -> None:
    turns = turns_of("priority:floor=50%")
    turns.begins("serve", 100)
    assert turns.asks_each_time
    ran = 0
    for now_ns in range(200, 10_200, 100):
        turns.asks_anew(now_ns)
        ran += turns.may_run(now_ns)[0]
    assert 40 <= ran <= 60


def test_rate_control_slows_down_where_requests_take_longer_than_alone() -> None:
    waits = {}
    for name, took_ns in (("as alone", 10_000_000), ("longer", 20_000_000)):
        turns, now_ns, let = turns_of("rate-control", 10**10), 0, 0
        for _ in range(100):
            turns.begins("serve", now_ns, expected_ns=10_000_000)
            for _ in range(20):
                now_ns += took_ns // 20
                turns.asks_anew(now_ns)
                let += turns.may_run(now_ns)[0]
            turns.ends("serve", now_ns)
            now_ns += 10_000_000
        waits[name] = let
    assert waits["longer"] < waits["as alone"] / 3


def test_policies_for_several_jobs_are_refused_with_those_that_are_not() -> None:
    for name in set(names()) - set(ONE_BEST_EFFORT):
        with pytest.raises(BadValue, match=re.escape("choose from: priority, priority+min-wait")):
            policy_of(parse_policy(name))


@pytest.mark.parametrize(
    ("text", "error", "said"),
    [
        ("idel", UnknownName, "unknown mechanism 'idel' (did you mean 'idle'?)"),
        ("stop:wait=1ms", UnknownName, "unknown option of mechanism stop"),
        ("stop:longest-stop=0", BadValue, "choose more than 0, such as 10s"),
        ("idle:min-wait=1ms", UnknownName, "option of mechanism idle 'min-wait'"),
        ("stop:min-wait=soon", BadValue, "'soon' is not a duration"),
    ],
)
def test_a_mechanism_that_cannot_be_is_refused(
    text: str, error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=re.escape(said)):
        parse_choice(text)


def test_a_mechanism_is_one_word() -> None:
    assert str(parse_choice("stop:min-wait=2ms,longest-stop=1s")) == (
        "stop:min-wait=2ms,longest-stop=1000ms"
    )
