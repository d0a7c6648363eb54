"""Arrivals against theory: rates, dispersion, the trace's thinning. Seeds are fixed."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from remora.core.errors import BadValue, UnknownName, UserError
from remora.share.arrivals.contract import Arrivals, Moments
from remora.share.arrivals.gamma import Gamma
from remora.share.arrivals.invocations import HEADER, Invocations, busiest_function, parse_rows
from remora.share.arrivals.markov import MarkovModulated
from remora.share.arrivals.poisson import Poisson
from remora.share.arrivals.registry import ARRIVALS, parse_arrivals

S = 1_000_000_000
TRACE = Invocations(np.arange(2880) % 60 * 10)
ALL: list[Arrivals] = [
    *(Poisson(), Gamma(), Gamma(0.5), Gamma(4.0)),
    *(MarkovModulated(), MarkovModulated(20.0, 0.05, S // 5), TRACE),
]


def counts(moments: Moments, duration_s: int, window_s: int) -> np.ndarray:
    edges = np.arange(0, duration_s + 1, window_s) * S
    return np.histogram(moments, edges)[0]


def dispersion(found: np.ndarray) -> float:
    return float(found.var(ddof=1) / found.mean())


@pytest.mark.parametrize("arrivals", ALL, ids=repr)
def test_the_same_seed_draws_the_same_and_another_does_not(arrivals: Arrivals) -> None:
    first = arrivals.draw(50, 20 * S, 7)
    assert np.array_equal(first, arrivals.draw(50, 20 * S, 7))
    assert not np.array_equal(first, arrivals.draw(50, 20 * S, 8))


@pytest.mark.parametrize("arrivals", ALL, ids=repr)
def test_moments_are_in_order_and_within_the_time(arrivals: Arrivals) -> None:
    moments = arrivals.draw(50, 20 * S, 1)
    assert moments.dtype == np.int64
    assert np.all(np.diff(moments) >= 0)
    assert moments[0] >= 0
    assert moments[-1] < 20 * S


@pytest.mark.parametrize(
    ("arrivals", "long_run"),
    [
        (Poisson(), 1.0),
        (Gamma(2.0), 4.0),
        (Gamma(0.5), 0.25),
        (MarkovModulated(), MarkovModulated().dispersion(50)),
        (MarkovModulated(20.0, 0.05, S // 5), MarkovModulated(20.0, 0.05, S // 5).dispersion(50)),
    ],
    ids=repr,
)
def test_rate_and_dispersion_are_those_of_theory(arrivals: Arrivals, long_run: float) -> None:
    duration_s, window_s = 40_000, 100
    moments = arrivals.draw(50, duration_s * S, 11)
    error = 50 * np.sqrt(long_run / (50 * duration_s))
    assert moments.size / duration_s == pytest.approx(50, abs=4 * error)
    # Over windows far longer than bursts; a variance of n counts has a relative error of √(2/n).
    found = dispersion(counts(moments, duration_s, window_s))
    assert found == pytest.approx(long_run, rel=4 * np.sqrt(2 / (duration_s / window_s)) + 0.08)


def test_the_dispersion_of_bursts_is_the_known_one() -> None:
    """Rates 1 and 21 with equal means of 2 s: 1 + 2 · ¼ · 20² / (1 · 11)."""
    bursts = MarkovModulated(21.0, 0.5, 2 * S)
    assert bursts.rates(11.0) == pytest.approx((1.0, 21.0))
    assert bursts.dispersion(11.0) == pytest.approx(1 + 200 / 11)


def test_gaps_are_of_their_distribution() -> None:
    for arrivals, cdf in [
        (Poisson(), stats.expon().cdf),
        (Gamma(2.0), stats.gamma(0.25, scale=4).cdf),
    ]:
        moments = arrivals.draw(1.0, 20_000 * S, 3)
        assert stats.kstest(np.diff(moments) / S, cdf).pvalue > 0.001


def test_a_renewal_has_no_beginning() -> None:
    """The first gap is what is left of one: on average (1 + variation²)/2 of the mean."""
    firsts = [Gamma(2.0).draw(1.0, 2000 * S, seed)[0] / S for seed in range(2000)]
    assert np.mean(firsts) == pytest.approx(2.5, rel=0.15)


@pytest.mark.parametrize(("rate", "duration_ns"), [(0, S), (-1, S), (float("inf"), S), (1, 0)])
def test_what_cannot_come_is_refused(rate: float, duration_ns: int) -> None:
    with pytest.raises(BadValue, match="choose positive numbers"):
        Poisson().draw(rate, duration_ns, 0)


def test_more_than_can_be_held_is_refused() -> None:
    with pytest.raises(BadValue, match="choose a shorter time"):
        Poisson().draw(1e9, S, 0)


def test_arrivals_are_named_as_people_write_them() -> None:
    assert parse_arrivals("poisson") == Poisson()
    assert parse_arrivals("gamma:variation=3") == Gamma(3.0)
    assert parse_arrivals("bursts:ratio=8,time=20%,burst=500ms") == MarkovModulated(
        8.0, 0.2, S // 2
    )
    assert list(ARRIVALS) == ["poisson", "gamma", "bursts"]


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("poison", UnknownName), ("gamma:cv=1", UnknownName), ("gamma:variation=0", BadValue),
        ("bursts:ratio=50%", BadValue), ("bursts:time=1", BadValue), ("bursts:burst=0", BadValue),
    ],
)  # fmt: skip
def test_arrivals_that_cannot_be_are_refused(text: str, error: type[UserError]) -> None:
    with pytest.raises(error):
        parse_arrivals(text)


# ------------------------------------------------- the trace


def row(function: str, counts: list[int], trigger: str = "http") -> list[str]:
    return ["owner", "app", function, trigger, *map(str, counts)]


def write(path: Path, *rows: list[str], header: tuple[str, ...] = HEADER) -> Path:
    text = io.StringIO()
    csv.writer(text).writerows([header, *rows])
    path.write_text(text.getvalue(), encoding="utf-8")
    return path


def flat(count: int) -> list[int]:
    return [count] * 1440


def test_the_busiest_function_of_all_days_is_taken(tmp_path: Path) -> None:
    third = write(tmp_path / "d03.csv", row("a", flat(5)), row("b", flat(4)))
    fourth = write(
        tmp_path / "d04.csv", row("b", flat(1)), row("b", flat(3), "timer"), row("a", flat(2))
    )
    busiest = busiest_function([third, fourth])
    assert busiest.per_minute.tolist() == [4] * 1440 + [4] * 1440
    assert busiest.total == 8 * 1440


def test_as_many_are_kept_as_make_the_load_and_the_time_is_squeezed() -> None:
    """⌊span / latency × load⌋ of them: 300 s, 10 ms, 0.5."""
    per_minute = np.zeros(2880, dtype=np.int64)
    per_minute[720:1440] = 100
    moments = Invocations(per_minute).draw(0.5 / 0.010, 300 * S, 5)
    assert moments.size == 15_000
    assert moments[0] >= 75 * S
    assert moments[-1] < 150 * S
    assert stats.kstest(moments / S, stats.uniform(75, 75).cdf).pvalue > 0.001


def test_what_arithmetic_rounds_off_is_no_request_less() -> None:
    assert 0.29 / 0.010 * 100 < 2900
    assert TRACE.draw(0.29 / 0.010, 100 * S, 5).size == 2900


def test_thinning_keeps_each_invocation_as_likely_as_any() -> None:
    kept = TRACE.draw(100, 2880 * S, 2)  # a second for every minute of the trace
    per_phase = np.bincount((kept // S) % 60, minlength=60)
    expected = np.arange(60) / np.arange(60).sum() * kept.size
    assert stats.chisquare(per_phase[1:], expected[1:]).pvalue > 0.001
    assert per_phase[0] == 0


def test_a_trace_that_is_too_thin_says_so() -> None:
    with pytest.raises(BadValue, match="1,500,000, and the busiest function of the trace has 849,"):
        TRACE.draw(5000, 300 * S, 0)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("a,b,c,http", "line 3: 4 fields; write 1444"),
        (",".join(row("a", flat(1))[:-1]) + ",x", "line 3: 'x' invocations in minute 1440"),
        (",".join(row("a", flat(1))[:-1]) + ",", "line 3: '' invocations in minute 1440"),
        (",".join(row("a", flat(1))[:-1]) + ",-1", "line 3: '-1' invocations in minute 1440"),
        (",".join(row("a", flat(1))[:-1]) + ",٣", "line 3: '٣' invocations in minute 1440"),
        (",".join(row("a", flat(1))[:-1]) + ",1" + "0" * 9, "of at most 9 digits"),
        ('a,b,c,"', "line 3: unexpected end of data; write plain CSV"),
    ],
)
def test_a_bad_row_is_named_by_its_line(tmp_path: Path, line: str, says: str) -> None:
    path = write(tmp_path / "d03.csv", row("a", flat(5)))
    path.write_text(path.read_text(encoding="utf-8") + line, encoding="utf-8")
    with pytest.raises(BadValue) as raised:
        busiest_function([path])
    assert says in str(raised.value)
    assert str(raised.value).startswith(str(path))


def test_a_file_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(BadValue, match="is not text in UTF-8"):
        busiest_function([tmp_path / "binary"])
    with pytest.raises(BadValue, match="No such file"):
        busiest_function([tmp_path / "none"])
    with pytest.raises(BadValue, match="Is a directory"):
        busiest_function([tmp_path])
    with pytest.raises(BadValue, match="line 1: 4 columns that begin with 'HashOwner"):
        busiest_function([write(tmp_path / "short", header=HEADER[:4])])
    with pytest.raises(BadValue, match="line 1: nothing is there"):
        busiest_function([write(tmp_path / "empty", header=())])
    with pytest.raises(BadValue, match="no function was invoked"):
        busiest_function([write(tmp_path / "quiet", row("a", flat(0)))])
    with pytest.raises(BadValue, match="no file of the trace"):
        busiest_function([])


cells = (
    st.text(max_size=12) | st.integers(-5, 10**12).map(str) | st.sampled_from(["", "0", '"', "1"])
)


def refusal(lines: list[str]) -> str | None:
    """What is said of lines that are not of the form."""
    try:
        for key, found in parse_rows(lines, "trace"):
            assert len(key) == 3
            assert len(found) == 1440
    except BadValue as error:
        return str(error)
    return None


@settings(max_examples=200, deadline=None)
@given(st.text() | st.lists(cells).map(",".join))
def test_whatever_stands_in_a_trace_the_user_is_told(text: str) -> None:
    head = ",".join(HEADER)
    for lines in ([text], [head + "\n", text], [head, *text.split("\n")]):
        said = refusal(lines)
        assert said is None or said.startswith("trace, line ")


@settings(max_examples=50, deadline=None)
@given(st.integers(4, 1443), cells)
def test_a_count_is_read_or_refused_by_its_minute(at: int, cell: str) -> None:
    fields = row("a", flat(1))
    fields[at] = cell
    text = io.StringIO()
    csv.writer(text).writerow(fields)
    said = refusal([",".join(HEADER) + "\n", *io.StringIO(text.getvalue(), newline="")])
    is_count = cell.isascii() and cell.isdigit() and len(cell) <= 9
    assert (said is None) == is_count
    assert said is None or f"invocations in minute {at - 3};" in said
