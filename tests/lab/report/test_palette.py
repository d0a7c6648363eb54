"""Every text colour stands out from every ground it may stand on, in both themes."""

import pytest

from remora.core.colours import DARK, LIGHT, Palette
from remora.lab.report.palette import SENTINEL, TEXT_ON, contrast, in_palette

WCAG_AA_TEXT = 4.5
WCAG_AA_GRAPHICS = 3.0


def test_contrast_is_that_of_the_standard() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21.0)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.005)


@pytest.mark.parametrize("palette", [LIGHT, DARK], ids=["light", "dark"])
@pytest.mark.parametrize(("text", "ground"), TEXT_ON)
def test_text_reads_on_its_ground(palette: Palette, text: str, ground: str) -> None:
    assert contrast(palette[text], palette[ground]) >= WCAG_AA_TEXT


@pytest.mark.parametrize("palette", [LIGHT, DARK], ids=["light", "dark"])
@pytest.mark.parametrize("tone", ["accent", "same", "worse", "better", "unsure", "void"])
@pytest.mark.parametrize("ground", ["paper", "margin", "noise"])
def test_marks_stand_out_from_the_bands_under_them(
    palette: Palette, tone: str, ground: str
) -> None:
    assert contrast(palette[tone], palette[ground]) >= WCAG_AA_GRAPHICS


def test_themes_name_the_same_colours_and_sentinels_are_unique() -> None:
    assert LIGHT.keys() == DARK.keys() == SENTINEL.keys()
    assert len(set(SENTINEL.values())) == len(SENTINEL)
    assert not set(SENTINEL.values()) & {*LIGHT.values(), *DARK.values()}


def test_sentinels_give_way_to_a_palette() -> None:
    assert in_palette(f"fill: {SENTINEL['worse']}", LIGHT) == f"fill: {LIGHT['worse']}"
