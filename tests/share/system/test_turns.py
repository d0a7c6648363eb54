"""A best-effort job's turns: never beside a job that serves, and never stopped for good."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remora.core.errors import BadValue, UnknownName
from remora.share.system.mechanisms.registry import parse_choice
from remora.share.system.turns import Turns

WAIT, LONGEST = 1_000, 50_000
EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["begins", "ends", "left"]), st.sampled_from("abc"), st.integers(0, 9_000)
    ),
    max_size=60,
)


def test_it_runs_where_nobody_serves() -> None:
    assert Turns(WAIT, LONGEST, 0).may_run(0) == (True, None)


def test_it_stops_at_once_and_goes_on_after_the_wait() -> None:
    turns = Turns(WAIT, LONGEST, 0)
    turns.begins("serve", 100)
    assert turns.may_run(100) == (False, LONGEST)
    turns.ends("serve", 600)
    assert turns.may_run(700) == (False, 600 + WAIT)
    assert turns.may_run(600 + WAIT) == (True, None)


def test_a_killed_job_does_not_keep_it() -> None:
    turns = Turns(WAIT, LONGEST, 0)
    turns.begins("serve", 100)
    turns.left("serve", 200)
    assert turns.may_run(200 + WAIT)[0]


def test_one_that_never_ends_keeps_it_for_so_long_and_no_longer() -> None:
    turns = Turns(WAIT, LONGEST, 0)
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
    turns, now_ns, serving = Turns(WAIT, LONGEST, 0), 0, dict[str, int]()
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
