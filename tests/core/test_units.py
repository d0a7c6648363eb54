"""Quantities as people type and read them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remora.core.errors import BadValue
from remora.core.units import (
    format_bytes,
    format_seconds,
    parse_bytes,
    parse_fraction,
    parse_ns,
    parse_seconds,
)


@pytest.mark.parametrize(
    ("text", "count"),
    [("512MiB", 512 * 2**20), ("2g", 2 * 10**9), ("100", 100), ("1.5 KiB", 1536), ("3kb", 3000)],
)
def test_sizes(text: str, count: int) -> None:
    assert parse_bytes(text) == count


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), ("90s", 90), ("10m", 600), ("1.5h", 5400), ("250ms", 0.25), ("5us", 5e-6)],
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_seconds(text) == pytest.approx(seconds)


@pytest.mark.parametrize(("text", "ns"), [("16us", 16_000), ("0.5 µs", 500), ("10ms", 10_000_000)])
def test_nanoseconds(text: str, ns: int) -> None:
    assert parse_ns(text) == ns


@pytest.mark.parametrize(("text", "share"), [("5%", 0.05), ("0.05", 0.05), (" 12.5 % ", 0.125)])
def test_shares(text: str, share: float) -> None:
    assert parse_fraction(text) == pytest.approx(share)


@pytest.mark.parametrize("text", ["", "ten", "5 parsecs", "-3m", "1e", "m"])
def test_what_is_no_quantity_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(BadValue, match="write a number and one of"):
        parse_seconds(text)
    with pytest.raises(BadValue, match="512MiB"):
        parse_bytes(text)


@pytest.mark.parametrize("text", ["", "0", "-5%", "nan", "inf", "five"])
def test_what_is_no_share_is_refused(text: str) -> None:
    with pytest.raises(BadValue, match="write it as '5%'"):
        parse_fraction(text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (5e-7, "0.5 µs"),
        (0.085, "85 ms"),
        (3.2, "3.2 s"),
        (245, "4 min 05 s"),
        (3600, "1 h 00 min"),
        (59.99, "60.0 s"),
    ],
)
def test_durations_read_well(seconds: float, text: str) -> None:
    assert format_seconds(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (2**41, "2.0 TiB")]
)
def test_sizes_read_well(count: int, text: str) -> None:
    assert format_bytes(count) == text


@given(st.integers(1, 10**15))
def test_a_whole_number_of_bytes_reads_back(count: int) -> None:
    assert parse_bytes(str(count)) == count
