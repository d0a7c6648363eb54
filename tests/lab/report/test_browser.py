"""The page in headless Chromium: a laptop, a phone, the dark, and paper."""

import base64
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from remora.core.colours import DARK, LIGHT
from remora.lab.report import Rendered, render
from remora.lab.results import Analysis, Trial

DRIVER = Path("/usr/bin/chromedriver")
WIDE_PX, PHONE_PX = 1280, 390
ARGUMENTS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip

TEXT_BOXES = """
return [...document.querySelectorAll('svg.drawing')]
  .filter((svg) => svg.getBoundingClientRect().width > 0)
  .map((svg) => [...svg.querySelectorAll('text')].map((text) => {
    const box = text.getBoundingClientRect(), edge = svg.getBoundingClientRect();
    const scale = edge.width / svg.viewBox.baseVal.width;
    return {words: text.textContent.trim(), left: box.left, right: box.right, top: box.top,
            bottom: box.bottom, size: parseFloat(getComputedStyle(text).fontSize) * scale,
            room: [edge.left, edge.right]};
  }));
"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    if shutil.which("chromium") is None or not DRIVER.exists():
        pytest.skip("chromium is not installed; apt-get install chromium chromium-driver")
    webdriver = pytest.importorskip("selenium.webdriver")
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    profile = tmp_path_factory.mktemp("profile")
    for argument in (*ARGUMENTS, f"--user-data-dir={profile}"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(executable_path=str(DRIVER)))
    yield driver
    driver.quit()


def visit(browser: Any, page: Path, width: int, scheme: str = "light") -> None:
    feature = {"name": "prefers-color-scheme", "value": scheme}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": 844, "deviceScaleFactor": 1, "mobile": width == PHONE_PX},
    )
    browser.get(page.as_uri())


def sideways_px(browser: Any) -> int:
    root = "document.documentElement"
    return int(browser.execute_script(f"return {root}.scrollWidth - {root}.clientWidth"))


@pytest.mark.parametrize("width", [WIDE_PX, 768, PHONE_PX, 320])
def test_body_never_scrolls_sideways(browser: Any, rendered: Rendered, width: int) -> None:
    visit(browser, rendered.page, width)
    browser.execute_script("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert sideways_px(browser) == 0


def test_console_stays_silent(browser: Any, rendered: Rendered) -> None:
    browser.get_log("browser")
    visit(browser, rendered.page, WIDE_PX)
    assert browser.get_log("browser") == []


@pytest.mark.parametrize("width", [WIDE_PX, 1000, PHONE_PX])
def test_text_of_figures_is_legible_and_apart(browser: Any, rendered: Rendered, width: int) -> None:
    visit(browser, rendered.page, width)
    figures = browser.execute_script(TEXT_BOXES)
    assert len(figures) == 4
    for texts in figures:
        assert len(texts) > 5
        for index, one in enumerate(texts):
            assert one["size"] >= 11, one
            assert one["room"][0] - 1 <= one["left"], one
            assert one["right"] <= one["room"][1] + 1, one
            for other in texts[index + 1 :]:
                assert not _overlap(one, other), (one["words"], other["words"])


def _overlap(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether two texts share ink; boxes have a little air above and below."""
    across = min(one["right"], other["right"]) - max(one["left"], other["left"])
    down = min(one["bottom"], other["bottom"]) - max(one["top"], other["top"])
    return bool(across > 1 and down > 4)


@pytest.mark.parametrize(("scheme", "palette"), [("light", LIGHT), ("dark", DARK)])
def test_page_and_figures_follow_the_readers_theme(
    browser: Any, rendered: Rendered, scheme: str, palette: dict[str, str]
) -> None:
    visit(browser, rendered.page, WIDE_PX, scheme)
    ground = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
    ink = browser.execute_script(
        "return getComputedStyle(document.querySelector('.for-wide text')).fill"
    )
    tones = {_rgb(value) for value in palette.values()}
    assert ground == _rgb(palette["paper"])
    assert ink in tones


def _rgb(colour: str) -> str:
    channels = ", ".join(str(int(colour[at : at + 2], 16)) for at in (1, 3, 5))
    return f"rgb({channels})"


def test_link_of_a_row_opens_its_trials(browser: Any, rendered: Rendered) -> None:
    visit(browser, rendered.page, WIDE_PX)
    browser.execute_script("document.querySelector('.summary tbody th a').click()")
    opened = "return document.querySelector(location.hash).open"
    assert browser.execute_async_script(
        f"const done = arguments[0]; setTimeout(() => {{ done((() => {{ {opened} }})()) }}, 100)"
    )


def test_phone_sets_rows_as_labelled_cards(browser: Any, rendered: Rendered) -> None:
    visit(browser, rendered.page, PHONE_PX)
    row = "document.querySelectorAll('.summary tbody tr')[1]"
    assert browser.execute_script(f"return getComputedStyle({row}).display") == "grid"
    label = browser.execute_script(
        f"return getComputedStyle({row}.querySelector('td.n'), '::before').content"
    )
    assert label == '"Ratio"'


def test_paper_gets_every_trial_in_the_light_theme(browser: Any, rendered: Rendered) -> None:
    visit(browser, rendered.page, WIDE_PX, "dark")
    printed = browser.execute_cdp_cmd("Page.printToPDF", {"printBackground": True})
    pdf = base64.b64decode(printed["data"])
    pages = len(re.findall(rb"/Type\s*/Page\b", pdf))
    assert 5 <= pages <= 25
    browser.execute_cdp_cmd(
        "Emulation.setEmulatedMedia",
        {"media": "print", "features": [{"name": "prefers-color-scheme", "value": "dark"}]},
    )
    ink = browser.execute_script("return getComputedStyle(document.body).color")
    shown = browser.execute_script(
        "const row = document.querySelector('.trials tbody tr');"
        "return row.getBoundingClientRect().height"
    )
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
    assert ink == _rgb(LIGHT["ink"])
    assert shown > 0


@pytest.mark.parametrize("kind", ["begun", "native_only", "all_failed"])
def test_sparse_results_show_without_complaint(
    browser: Any, kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    results: tuple[Analysis, list[Trial]] = request.getfixturevalue(kind)
    page = render(tmp_path, *results).page
    browser.get_log("browser")
    visit(browser, page, PHONE_PX)
    assert browser.get_log("browser") == []
    assert sideways_px(browser) == 0
    assert browser.execute_script("return document.querySelector('h1').offsetHeight") > 0
