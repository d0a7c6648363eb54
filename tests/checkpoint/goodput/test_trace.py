"""Traces: the published form, read and written; what is wrong in a file is said with its line."""

from __future__ import annotations

import math
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from remora.checkpoint.goodput import (
    COUNTINGS,
    Change,
    Reading,
    Trace,
    compressed,
    exponential_failures,
    parse_trace,
    read_trace,
    synthetic_trace,
)
from remora.core.errors import BadValue, UnknownName

SMALL = ",Time,GPUs\n0,100.5,56\n1,163.5,56\n2,226.5,50\n3,289.5,51\n4,352.5,43\n"


def published() -> Path | None:
    """The trace that PCcheck published: named by REMORA_PCCHECK_TRACE, or beside the project."""
    if named := os.environ.get("REMORA_PCCHECK_TRACE"):
        return Path(named)
    beside = Path("shared", "data", "pccheck", "gpus_trace.csv")
    here = Path(__file__).resolve()
    return next((up / beside for up in here.parents if (up / beside).exists()), None)


def test_a_trace_in_the_published_form() -> None:
    trace = parse_trace(SMALL, "small")
    assert trace.readings[2] == Reading(226.5, 50)
    assert (trace.duration_s, trace.most_gpus, trace.synthetic) == (252.0, 56, False)
    assert trace.changes() == (
        Change(126.0, 56, 50),
        Change(189.0, 50, 51),
        Change(252.0, 51, 43),
    )


def test_what_counts_as_a_failure() -> None:
    trace = parse_trace(SMALL, "small")
    assert trace.failures() == trace.failures("drops") == (126.0, 252.0)
    assert trace.failures("changes") == (126.0, 189.0, 252.0)
    # 56 GPUs come (14 machines), 6 go (one machine), 1 comes (none), 8 go (two).
    assert trace.failures("published") == (0.0,) * 14 + (126.0, 252.0, 252.0)
    with pytest.raises(UnknownName, match="changes, drops, published"):
        trace.failures("dropz")  # type: ignore[arg-type]


def test_the_published_trace_has_the_published_facts() -> None:
    path = published()
    if path is None:
        pytest.skip("the published trace is not here: set REMORA_PCCHECK_TRACE to its path")
    trace = read_trace(path)
    assert len(trace.readings) == 215
    assert trace.most_gpus == 56
    assert trace.duration_s == 214 * 63
    # 51 failures in the evaluation: machines of 4 GPUs, come or gone, the first 14 included.
    assert len(trace.failures("published")) == 51
    losses = [change for change in trace.changes() if change.after < change.before]
    assert sum(change.machines for change in losses) == 25
    assert len(trace.failures("changes")) == len(trace.changes()) == 48
    # As moments at which GPUs were lost, however many, there are 26.
    assert len(trace.failures("drops")) == len(losses) == 26


def test_columns_are_found_by_name() -> None:
    text = "GPUs,zone, Time\n8,a,1\n4,b,2.5\n"
    assert parse_trace(text, "t").readings == (Reading(1.0, 8), Reading(2.5, 4))


def test_blank_lines_line_ends_and_a_byte_order_mark_do_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "trace.csv"
    path.write_bytes(b"\xef\xbb\xbf,Time,GPUs\r\n0,1,8\r\n\r\n1,2,4")
    assert [reading.gpus for reading in read_trace(path).readings] == [8, 4]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "line 1: no column Time and GPUs; begin with the header ',Time,GPUs'"),
        (",Time,Cores\n0,1,2\n", "line 1: no column GPUs"),
        (",Time,GPUs\n", "line 2: ends after 0 readings; give two"),
        (",Time,GPUs\n0,1,8\n", "line 3: ends after 1 readings"),
        (",Time,GPUs\n0,1,8\n1,two,8\n", "line 3: Time is 'two'; write a number, 0 or more"),
        (",Time,GPUs\n0,1,8\n1,2,\n", "line 3: GPUs is ''"),
        (",Time,GPUs\n0,1,8\n\n1,2,-4\n", "line 4: GPUs is '-4'"),
        (",Time,GPUs\n0,nan,8\n", "line 2: Time is 'nan'"),
        (",Time,GPUs\n0,1,inf\n", "line 2: GPUs is 'inf'"),
        (",Time,GPUs\n0,1,7.5\n", "line 2: GPUs is 7.5; write a whole number"),
        (",Time,GPUs\n0,2,8\n1,1,8\n", "line 3: time 1.0 is not after 2.0 above it"),
        (",Time,GPUs\n0,2,8\n1,2,8\n", "line 3: time 2.0 is not after 2.0 above it"),
        (",Time,GPUs\n0,1\n", "line 2: 2 fields, so no GPUs; write as many as the header"),
        (',Time,GPUs\n0,"1,8\n', "write plain CSV"),
    ],
    ids=[
        "empty", "columns", "no readings", "one reading", "a word", "nothing", "negative", "nan",
        "infinite", "half", "unsorted", "twice", "short", "quote",
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_with_its_line(text: str, says: str) -> None:
    with pytest.raises(BadValue) as caught:
        parse_trace(text, "gpus.csv")
    message = str(caught.value)
    assert message.startswith("gpus.csv, line ")
    assert says in message
    assert "\n" not in message


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(BadValue, match=r"none\.csv: No such file"):
        read_trace(tmp_path / "none.csv")
    with pytest.raises(BadValue, match="directory"):
        read_trace(tmp_path)
    (tmp_path / "bytes.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(BadValue, match="not text in UTF-8"):
        read_trace(tmp_path / "bytes.csv")


def test_a_trace_without_time_is_none() -> None:
    with pytest.raises(BadValue, match="give two"):
        Trace("t", (Reading(0.0, 8),))


moments = st.lists(st.floats(0, 2e9), min_size=2, max_size=30, unique=True).map(sorted)


@settings(deadline=None)
@given(st.data(), moments)
def test_what_is_written_is_read_back_exactly(data: st.DataObject, times: list[float]) -> None:
    gpus = data.draw(st.lists(st.integers(0, 10**6), min_size=len(times), max_size=len(times)))
    trace = Trace("t", tuple(map(Reading, times, gpus)))
    assert parse_trace(trace.csv(), "t") == trace


@pytest.mark.slow
@settings(deadline=None)
@given(st.text(alphabet=",.019-e\n\"' TimeGPUs", max_size=200))
def test_any_text_is_a_trace_or_one_line_about_it(text: str) -> None:
    refused = ""
    try:
        parse_trace(",Time,GPUs\n" + text, "t")
    except BadValue as error:
        refused = str(error)
    assert not refused or ("line " in refused and "\n" not in refused)


# ---------------------------------------------------------------- drawn


def test_a_drawn_trace_says_so_and_is_always_the_same() -> None:
    first, second = (synthetic_trace(3, hours=4, mtbf_s=900) for _ in range(2))
    assert first == second != synthetic_trace(4, hours=4, mtbf_s=900)
    assert first.synthetic
    assert first.name == "synthetic (seed 3, 4 h, a loss every 900 s)"
    assert len(first.readings) == 4 * 3600 // 63 + 1
    assert parse_trace(first.csv(), first.name).readings == first.readings


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_a_drawn_trace_loses_machines_at_the_rate_asked_for(seed: int) -> None:
    # GIVEN machines that stay away for long, so that few losses and returns cancel out
    trace = synthetic_trace(seed, hours=2000, mtbf_s=3600, repair_s=6000)
    assert len(trace.failures()) == pytest.approx(2000, rel=0.08)
    assert all(reading.gpus % 4 == 0 for reading in trace.readings)
    assert trace.most_gpus == 56


def test_a_cluster_that_keeps_failing_is_never_below_nothing() -> None:
    trace = synthetic_trace(0, hours=5, mtbf_s=10)
    assert min(reading.gpus for reading in trace.readings) == 0


def test_drawn_failures_come_at_the_rate_asked_for() -> None:
    drawn = exponential_failures(1, mtbf_s=10, duration_s=100_000)
    assert drawn == exponential_failures(1, mtbf_s=10, duration_s=100_000)
    assert len(drawn) == pytest.approx(10_000, rel=0.05)
    assert list(drawn) == sorted(drawn)
    assert 0 < drawn[0] < drawn[-1] < 100_000
    # Exponential: the share of gaps longer than the mean is 1 / e.
    gaps = [b - a for a, b in zip((0.0, *drawn), drawn, strict=False)]
    assert sum(gap > 10 for gap in gaps) / len(gaps) == pytest.approx(1 / math.e, abs=0.02)


def test_compressed_failures_are_denser() -> None:
    assert compressed((24.0, 48.0), 24) == (1.0, 2.0)


def test_numbers_that_cannot_be_are_refused() -> None:
    for wrong in (
        lambda: synthetic_trace(0, hours=0, mtbf_s=1),
        lambda: synthetic_trace(0, hours=1, mtbf_s=-1),
        lambda: synthetic_trace(0, hours=1, mtbf_s=1, machines=0),
        lambda: exponential_failures(0, mtbf_s=math.inf, duration_s=1),
        lambda: compressed((1.0,), 0),
    ):
        with pytest.raises(BadValue, match="not a positive number"):
            wrong()


def test_the_countings_are_those_that_are_documented() -> None:
    assert COUNTINGS == ("drops", "changes", "published")
