"""Numbers are written with few digits, real minus signs and no surprises."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remora.lab.report import numbers

ANY_FLOAT = st.floats(allow_nan=True, allow_infinity=True)


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (0.0, "0"), (0.0123456, "0.0123"), (0.9996, "1.00"), (85.24, "85.2"), (999.7, "1\u202f000"),
        (1234.5, "1\u202f234"), (12345.6, "12\u202f350"), (-0.5, "−0.500"), (None, "–"),
        (math.nan, "–"), (math.inf, "–"),
    ],
)  # fmt: skip
def test_three_significant_digits(value: float | None, written: str) -> None:
    assert numbers.significant(value) == written


@pytest.mark.parametrize(
    ("value", "as_ratio", "as_overhead"),
    [
        (1.0, "1.000×", "0.0\u00a0%"), (1.052, "1.052×", "+5.2\u00a0%"),
        (0.9966, "0.997×", "−0.3\u00a0%"), (8.354, "8.35×", "+735\u00a0%"),
        (0.99999, "1.000×", "0.0\u00a0%"), (1.00001, "1.000×", "0.0\u00a0%"), (None, "–", "–"),
    ],
)  # fmt: skip
def test_ratio_and_overhead(value: float | None, as_ratio: str, as_overhead: str) -> None:
    assert numbers.ratio(value) == as_ratio
    assert numbers.overhead(value) == as_overhead


def test_interval_ends_share_their_decimals_and_do_not_part() -> None:
    assert numbers.interval(0.9, 2.25) == "[0.900,\u00a02.250]"
    assert numbers.interval(-math.inf, math.inf) == "[−∞,\u00a0∞]"


@pytest.mark.parametrize(
    ("value", "written"),
    [(0.0, "<0.001"), (0.00099, "<0.001"), (0.0312, "0.031"), (0.0996, "0.10"), (1.0, "1.00")],
)
def test_p_value(value: float, written: str) -> None:
    assert numbers.p_value(value) == written


@given(ANY_FLOAT)
def test_every_float_can_be_written(value: float) -> None:
    for write in (numbers.significant, numbers.ratio, numbers.overhead, numbers.share,
                  numbers.p_value, numbers.effect):  # fmt: skip
        written = write(value)
        assert written
        assert "-" not in written.replace("e-", "")
        assert "nan" not in written


@given(st.floats(min_value=1e-9, max_value=9_999))
def test_what_is_written_is_within_half_a_unit_of_the_third_digit(value: float) -> None:
    written = float(numbers.significant(value).replace(numbers.THIN, ""))
    assert written == pytest.approx(value, rel=0.0051)
