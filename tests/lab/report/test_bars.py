"""Bars: a place for every value, and for what is not known."""

from __future__ import annotations

import re

import pytest

from remora.core.colours import LIGHT
from remora.lab.report.figures.bars import Bar, BarChart, Group, draw_bars
from remora.lab.report.figures.canvas import VARIANTS, WIDTH_PX, Variant, saved, settings

KINDS = ("settrace", "patch-everything", "check")


def chart(*groups: Group) -> BarChart:
    return BarChart(KINDS, "published", groups)


def drawing(drawn: BarChart, variant: Variant) -> str:
    with settings():
        return saved(draw_bars(drawn, LIGHT, variant), "svg").decode()


FULL = Group("mnist", [Bar(400, 380, 420, 988), Bar(90, 80, 100), Bar(1.01, 1.0, 1.02, 1.2)], 0.03)
PARTIAL = Group("a-workload-of-a-very-long-name", [Bar(0.5), Bar(None), Bar(3, 0.001, 1e9)])


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_group_and_kind_is_named(variant: Variant) -> None:
    svg = drawing(chart(FULL, PARTIAL, FULL), variant)
    words = re.findall(r">([^<>\n]+)</text>", svg)
    assert words.count("mnist") == 2
    assert all(f"{letter}  {kind}" in words for letter, kind in zip("abc", KINDS, strict=True))
    assert {"published", "noise floor"} <= set(words)
    assert words.count("b") == 2
    assert words.count("–") == 1


def test_the_axis_is_logarithmic_and_one_for_all() -> None:
    ticks = re.findall(r">([\d.]+)×</text>", drawing(chart(FULL, PARTIAL), "wide"))
    assert ticks == ["1", "10", "100", "1000"]
    near = Group("near", [Bar(1.1), Bar(1.6), Bar(0.9)])
    assert re.findall(r">([\d.]+)×</text>", drawing(chart(near), "wide")) == ["1", "2"]


def test_groups_that_do_not_fit_beside_one_another_stand_below() -> None:
    def height(variant: Variant, count: int) -> float:
        with settings():
            return draw_bars(chart(*[FULL] * count), LIGHT, variant).height

    assert height("wide", 6) == height("wide", 1) < height("wide", 7)
    assert height("narrow", 2) < height("narrow", 3) == height("narrow", 4)
    assert WIDTH_PX["narrow"] < WIDTH_PX["wide"]


OVER = Group("mnist", [Bar(7), Bar(1.2)], kinds=(1, 2), below="1 Gbit/s, 1 ms")


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_group_of_some_kinds_has_their_letters_and_no_dashes(variant: Variant) -> None:
    svg = drawing(chart(FULL, OVER, OVER), variant)
    words = re.findall(r">([^<>\n]+)</text>", svg)
    letters = {letter: words.count(letter) for letter in ("a", "b", "c", "–")}
    assert letters == {"a": 1, "b": 3, "c": 3, "–": 0}
    assert words.count("mnist") == 3
    assert words.count("1 Gbit/s, 1 ms") == 2


def test_groups_of_few_bars_stand_beside_others_where_there_is_room() -> None:
    def height(variant: Variant, *groups: Group) -> float:
        with settings():
            return draw_bars(chart(*groups), LIGHT, variant).height

    assert height("wide", FULL, OVER) == height("wide", *[FULL] * 4, OVER)
    assert height("wide", FULL, OVER) < height("wide", *[FULL] * 6, OVER)


def test_without_references_or_floors_the_legend_names_none() -> None:
    words = drawing(chart(PARTIAL), "wide")
    assert "published" not in words
    assert "noise floor" not in words
