"""Figures keep every extreme, use no stray colour, and embed beside one another."""

import math
import re

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from remora.core.colours import LIGHT
from remora.lab.report import Rendered
from remora.lab.report.figures import FIGURES
from remora.lab.report.figures.rows import shortened
from remora.lab.report.figures.samples import envelope
from remora.lab.report.figures.scale import LOG_SPREAD, around, closer
from remora.lab.results import Analysis, Trial

POSITIVE = st.floats(min_value=1e-6, max_value=1e6)


@pytest.fixture(scope="module")
def inline(rendered: Rendered) -> list[str]:
    """The drawings of the page."""
    page = rendered.page.read_text(encoding="utf-8")
    return re.findall(r"<svg .*?</svg>", page, re.DOTALL)


def test_each_figure_has_every_form(rendered: Rendered) -> None:
    starts = {".pdf": b"%PDF-", ".png": b"\x89PNG", ".svg": b"<?xml"}
    assert {path.stem for path in rendered.figures} == {figure.name for figure in FIGURES}
    for path in rendered.figures:
        assert path.read_bytes().startswith(starts[path.suffix])


def test_the_same_data_gives_the_same_bytes(
    rendered: Rendered, results: tuple[Analysis, list[Trial]], inline: list[str]
) -> None:
    again = next(figure for figure in FIGURES if figure.name == "stalls").drawn(*results)
    for form, data in again.files.items():
        assert data == (rendered.folder / "figures" / f"stalls.{form}").read_bytes()
    assert again.wide in inline
    assert again.narrow in inline


def test_files_bear_no_date_and_no_version(rendered: Rendered) -> None:
    for path in rendered.figures:
        data = path.read_bytes()
        assert b"CreationDate" not in data
        assert b"matplotlib.org" not in data
        assert b"dc:date" not in data


def test_colours_are_variables_in_the_page(inline: list[str]) -> None:
    for drawing in inline:
        assert re.findall(r"#[0-9a-f]{6}\b", drawing) == []
        assert "var(--ink)" in drawing


def test_colours_are_those_of_the_light_theme_in_the_file(rendered: Rendered) -> None:
    for path in rendered.figures:
        if path.suffix == ".svg":
            assert set(re.findall(r"#[0-9a-f]{6}\b", path.read_text())) <= set(LIGHT.values())


def test_embedded_drawings_share_no_id_and_refer_only_to_their_own(inline: list[str]) -> None:
    assert len(inline) == 2 * len(FIGURES)
    ids = [name for part in inline for name in re.findall(r'\bid="([^"]+)"', part)]
    assert len(ids) == len(set(ids))
    for part in inline:
        own = set(re.findall(r'\bid="([^"]+)"', part))
        used = set(re.findall(r'href="#([^"]+)"', part)) | set(re.findall(r"url\(#([^)]+)\)", part))
        assert used <= own
        assert "http" not in part
        assert 'role="img"' in part
        assert "<title" in part


@given(arrays(np.float64, st.integers(1, 2000), elements=POSITIVE), st.integers(2, 300))
def test_a_thinned_trace_keeps_its_extremes_and_its_order(values: np.ndarray, points: int) -> None:
    index, kept = envelope(values, points)
    assert kept.max() == values.max()
    assert kept.min() == values.min()
    assert len(kept) <= max(points, 2)
    assert (np.diff(index) > 0).all()
    np.testing.assert_array_equal(values[index.astype(int)], kept)


@example([1e-05], 6)
@given(st.lists(POSITIVE, min_size=1, max_size=20), st.integers(3, 9))
def test_a_scale_shows_every_value_and_ticks_inside_it(values: list[float], ticks: int) -> None:
    scale = around(values, ticks)
    assert scale.low <= min(values) <= max(values) <= scale.high
    assert all(scale.low <= tick <= scale.high for tick in scale.ticks)
    assert scale.log == (max(values) / min(values) > LOG_SPREAD)
    assert len(scale.ticks) <= ticks + 2


def test_a_scale_of_nothing_is_still_a_scale() -> None:
    assert around([], 5).high > around([], 5).low
    assert around([math.nan, math.inf], 5).ticks
    assert closer([10.0], 1.0, 5) is None


def test_a_closer_view_leaves_out_what_lies_far() -> None:
    scale = closer([0.98, 1.02, 8.0], 1.0, 5)
    assert scale is not None
    assert scale.high < 1.1


def test_a_long_name_keeps_its_end() -> None:
    assert shortened("torch-save-every-100", 12) == "torch-sa…100"
    assert shortened("idle", 12) == "idle"
