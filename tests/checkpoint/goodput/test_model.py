"""Goodput of every scheme: the published formulas by hand, and beside them the exact replay."""

from __future__ import annotations

import csv
import io
import math
from typing import Any

import pytest

from remora.checkpoint.goodput import (
    COLUMNS,
    SCHEMES,
    GoodputRow,
    Job,
    Line,
    Point,
    Reading,
    Trace,
    cells,
    exponential_failures,
    find_scheme,
    goodput_csv,
    goodput_table,
    synthetic_trace,
)
from remora.checkpoint.goodput.model import formula_rate, replayed
from remora.core.errors import BadValue, UnknownName

JOB = Job(step_s=0.5, load_s=10.0)
POINT = Point(every=20, throughput=0.8, write_s=4.0, in_flight=2)

# An hour and a half, and one loss, an hour in.
TRACE = Trace("one loss", (Reading(0, 8), Reading(3600, 4), Reading(5400, 4)))


@pytest.mark.parametrize(
    ("scheme", "redo_s"),
    [
        ("ideal", 10 + 20 * 0.5 / 2),
        ("gpm", 10 + 20 * 0.5 / 2),
        ("checkfreq", 10 + 20 * 0.5),
        ("gemini", 10 + 20 * 0.5),
        ("pccheck", 10 + 20 * 0.5 / 2 + 0.5 * min(4 / 0.5, 20 * 2) / 2),
        ("remora", 10 + 20 * 0.5 / 0.8 / 2 + 4),
    ],
)
def test_what_a_failure_costs(scheme: str, redo_s: float) -> None:
    assert find_scheme(scheme).redo_s(JOB, POINT) == pytest.approx(redo_s)
    job = Job(step_s=0.5, load_s=10.0, restart_s=7.0)
    assert find_scheme(scheme).redo_s(job, POINT) == pytest.approx(redo_s + 7)


def test_pcchecks_write_time_is_bounded_by_what_is_in_flight() -> None:
    slow = Point(every=2, throughput=1.0, write_s=100.0, in_flight=3)
    assert SCHEMES["pccheck"].redo_s(JOB, slow) == pytest.approx(10 + 0.5 + 0.5 * 6 / 2)


def test_the_published_goodput() -> None:
    # (5400 − 3 · 20) s at 0.8 of 2 steps a second
    rate = formula_rate(SCHEMES["checkfreq"], JOB, POINT, 3, 5400.0)
    assert rate == pytest.approx((5400 - 60) * 1.6 / 5400)
    assert formula_rate(SCHEMES["checkfreq"], JOB, POINT, 1000, 5400.0) == 0.0


def test_both_stand_side_by_side_and_the_ideal_beside_them() -> None:
    lines = [
        Line("a", SCHEMES["checkfreq"], (POINT,)),
        Line("b", SCHEMES["remora"], (Point(every=5, throughput=1.0, write_s=1.0, in_flight=2),)),
    ]
    rows = goodput_table(TRACE, JOB, lines)
    assert [(row.label, row.every) for row in rows] == [
        ("a", 20), ("b", 5), ("ideal", 5), ("ideal", 20)
    ]  # fmt: skip
    ours = rows[1]
    # 7,200 steps until the loss: the newest durable one is 7,195 (its write took until 3,598.5 s).
    assert (ours.failures, ours.lost_steps, ours.down_s) == (1, 5, 10.0)
    assert ours.replay_steps_per_hour == pytest.approx((7195 + 1790 * 2) / 1.5)
    assert ours.formula_steps_per_hour == pytest.approx((5400 - 10 - 1.25 - 1) * 2 / 1.5)
    assert ours.replay_share == pytest.approx((7195 + 3580) / 10800)
    assert ours.formula_error == pytest.approx(
        ours.formula_steps_per_hour / ours.replay_steps_per_hour - 1
    )
    assert not ours.synthetic


def test_a_stalling_scheme_is_durable_when_the_step_goes_on() -> None:
    # GIVEN writes longer than the interval, which training waited for
    point = Point(every=2, throughput=0.25, write_s=4.0)
    exact = replayed(SCHEMES["gpm"], JOB, point, [3601.0], 5400.0)
    assert exact.lost_steps == int(3601 / 2) % 2


def test_a_job_that_does_nothing_has_no_error() -> None:
    always = Trace("down", tuple(Reading(t, 100 - t) for t in range(100)))
    (row,) = goodput_table(always, Job(step_s=2.0, load_s=200.0), [Line("a", SCHEMES["gpm"], (
        Point(every=1, throughput=1.0),))])[:1]  # fmt: skip
    assert (row.formula_steps_per_hour, row.replay_steps_per_hour, row.formula_error) == (0, 0, 0)


@pytest.mark.parametrize("scheme", ["ideal", "gpm", "remora"])
@pytest.mark.parametrize("every", [1, 10, 100])
def test_formula_and_replay_agree_where_failures_are_many_and_random(
    scheme: str, every: int
) -> None:
    point = Point(every=every, throughput=0.9, write_s=1.5, in_flight=4)
    if every == 1:  # more often than storage takes them: the mean of the bursts is off by part
        point = Point(every=every, throughput=0.9, write_s=1.5, in_flight=3)
    failures = exponential_failures(2, mtbf_s=600.0, duration_s=1e6)
    formula = formula_rate(SCHEMES[scheme], JOB, point, len(failures), 1e6)
    exact = replayed(SCHEMES[scheme], JOB, point, failures, 1e6).steps_per_hour / 3600
    assert formula == pytest.approx(exact, rel=0.01)


def test_the_published_term_for_pccheck_has_half_of_the_write() -> None:
    # GIVEN writes of 60 s at an interval of 50 s, two in flight, and a failure every 20 minutes
    point = Point(every=100, throughput=1.0, write_s=60.0, in_flight=2)
    failures = exponential_failures(3, mtbf_s=1200.0, duration_s=4e6)
    exact = replayed(SCHEMES["pccheck"], JOB, point, failures, 4e6)
    published = SCHEMES["pccheck"].redo_s(JOB, point) - JOB.down_s
    ours = SCHEMES["remora"].redo_s(JOB, point) - JOB.down_s
    lost_s = exact.lost_steps * JOB.step_s / exact.restarts
    assert ours == 85.0
    assert published == 55.0
    assert lost_s == pytest.approx(ours, rel=0.06)


def test_checkfreqs_formula_charges_more_than_a_quick_write_loses() -> None:
    point = Point(every=100, throughput=1.0, write_s=1.0)
    failures = exponential_failures(3, mtbf_s=1200.0, duration_s=4e6)
    exact = replayed(SCHEMES["checkfreq"], JOB, point, failures, 4e6)
    assert exact.lost_steps * JOB.step_s / exact.restarts < 0.6 * 50.0


def test_the_published_counting_has_other_failures() -> None:
    rows = {c: goodput_table(TRACE, JOB, [], counting=c) for c in ("drops", "published")}
    assert rows == {"drops": (), "published": ()}
    line = Line("a", SCHEMES["gpm"], (Point(every=20, throughput=1.0),))
    drops = goodput_table(TRACE, JOB, [line], counting="drops")[0]
    published = goodput_table(TRACE, JOB, [line], counting="published")[0]
    assert (drops.failures, published.failures) == (1, 3)
    assert published.formula_steps_per_hour < drops.formula_steps_per_hour
    # Two of the three are the machines of the beginning: nothing is lost there but a load.
    lost = (drops.replay_steps_per_hour - published.replay_steps_per_hour) * 1.5
    assert lost == pytest.approx(20, abs=20)


# ---------------------------------------------------------------- as CSV


def test_the_table_as_csv() -> None:
    line = Line("a", SCHEMES["gpm"], (Point(every=20, throughput=1.0),))
    rows = goodput_table(TRACE, JOB, [line])
    assert goodput_csv({"w": rows[:1]}) == (
        "workload,trace,synthetic,counting,failures,duration_s,label,scheme,every,throughput,write_s,"
        "in_flight,redo_s,formula_steps_per_hour,replay_steps_per_hour,formula_share,replay_share,"
        "lost_steps,down_s,formula_error\n"
        "w,one loss,false,drops,1,5400,a,gpm,20,1.0,0.0,1,15.0,7180.0,7186.666666666666,"
        "0.9972222222222222,0.9981481481481481,0,10.0,-0.0009276437847866026\n"
    )
    assert len(cells(rows[0])) == len(COLUMNS)


def test_what_is_drawn_is_labelled_in_every_row() -> None:
    rows = goodput_table(synthetic_trace(1, 2, 600), JOB, [Line("a", SCHEMES["gpm"], (POINT,))])
    read = list(csv.DictReader(io.StringIO(goodput_csv({"w": rows}))))
    assert {row["synthetic"] for row in read} == {"true"}
    assert all(row["trace"].startswith("synthetic (seed 1") for row in read)


def test_an_error_without_bound_is_said() -> None:
    values = dict.fromkeys(GoodputRow.__dataclass_fields__, 0) | {"formula_steps_per_hour": 1.0}
    assert GoodputRow(**values).formula_error == math.inf  # type: ignore[arg-type]


# ---------------------------------------------------------------- what cannot be


def test_an_unknown_scheme_lists_those_there_are() -> None:
    with pytest.raises(UnknownName, match="checkfreq, gemini, gpm, ideal, pccheck, remora"):
        find_scheme("pchek")


@pytest.mark.parametrize(
    "wrong",
    [{"step_s": 0.0}, {"load_s": -1.0}, {"restart_s": math.nan}, {"step_s": math.inf}],
    ids=str,
)
def test_a_job_that_cannot_be_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(BadValue, match=next(iter(wrong))):
        Job(**({"step_s": 1.0} | wrong))


@pytest.mark.parametrize(
    "wrong", [{"every": 0}, {"throughput": 0.0}, {"write_s": -1.0}, {"in_flight": 0}], ids=str
)
def test_a_point_that_cannot_be_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(BadValue, match=next(iter(wrong))):
        Point(**({"every": 1, "throughput": 1.0} | wrong))
