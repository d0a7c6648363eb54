"""The page on sharing names what there is: every policy and arrival, with every option."""

from __future__ import annotations

from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import pytest

from remora.share.arrivals.registry import ARRIVALS
from remora.share.naming import written
from remora.share.policies.registry import POLICIES

PAGE = (Path(__file__).parents[2] / "docs" / "share.md").read_text(encoding="utf-8")
OPTIONS: dict[str, type[Any]] = {
    **{name: policy.options_type for name, policy in POLICIES.items()},
    **ARRIVALS,
}


@pytest.mark.parametrize("name", OPTIONS)
def test_it_has_a_row_with_every_option_and_its_default(name: str) -> None:
    row = next(line for line in PAGE.splitlines() if line.startswith(f"| `{name}` |"))
    for each in fields(OPTIONS[name]):
        assert each.default is not MISSING
        word, _, default = written("", {each.name: each.default}).removeprefix(":").partition("=")
        assert f"`{word}" in row
        shown = row.partition(f"`{word}=")[2].partition("`")[0]
        assert not shown or as_written(shown) == as_written(default)


def as_written(value: str) -> float:
    """``2ms``, ``1s``, ``5%`` as one number each."""
    for unit, factor in (("ms", 1e-3), ("s", 1.0), ("%", 0.01)):
        if value.endswith(unit):
            return round(float(value.removesuffix(unit)) * factor, 9)
    return float(value)
