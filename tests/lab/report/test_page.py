"""The page is whole, self-contained and escapes what it is given."""

import re
from html.parser import HTMLParser
from urllib.parse import unquote

import pytest

from remora.lab.report import Rendered
from remora.lab.report.html import page_html
from remora.lab.report.page import slug
from remora.lab.results import Analysis, Trial


class Elements(HTMLParser):
    """Every element's name and attributes, and the words between."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.words = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words += data

    def values(self, attribute: str) -> list[str]:
        return [value for _, attrs in self.found if (value := attrs.get(attribute)) is not None]


@pytest.fixture(scope="module")
def page(rendered: Rendered) -> str:
    return rendered.page.read_text(encoding="utf-8")


def test_nothing_is_loaded_from_anywhere(page: str) -> None:
    elements = Elements(page)
    assert "http://" not in page
    assert "https://" not in page
    assert not elements.values("src")
    assert "@import" not in page
    for tag, attrs in elements.found:
        if tag == "link":
            assert (attrs["href"] or "").startswith("data:")


def test_ids_are_unique_and_every_anchor_resolves(page: str) -> None:
    elements = Elements(page)
    ids = elements.values("id")
    assert len(ids) == len(set(ids))
    anchors = [href[1:] for href in elements.values("href") if href.startswith("#")]
    assert len(anchors) > 30
    assert set(anchors) <= set(ids)


def test_contents_lists_every_section_in_order(page: str) -> None:
    sections = [attrs["id"] for tag, attrs in Elements(page).found if tag == "section"]
    contents = page[page.index("<nav") : page.index("</nav>")]
    assert re.findall(r'href="#([^"]+)"', contents) == sections


def test_names_are_shown_not_obeyed(page: str) -> None:
    tags = [tag for tag, _ in Elements(page).found]
    assert tags.count("script") == 1
    assert "<script>alert(" not in page
    assert "&lt;script&gt;alert(" in page


def test_every_trial_is_listed_with_a_link_to_its_samples(
    page: str, results: tuple[Analysis, list[Trial]]
) -> None:
    links = {unquote(href) for href in Elements(page).values("href")}
    assert {f"../trials/{trial.spec.id}.json" for trial in results[1]} <= links
    assert {f"../{t.failure.log}" for t in results[1] if t.failure} <= links


def test_every_number_of_the_answer_is_on_the_page(
    page: str, results: tuple[Analysis, list[Trial]]
) -> None:
    words = Elements(page).words
    for comparison in results[0].comparisons:
        assert comparison.ratio is not None
        assert comparison.verdict in words
    assert "8.35×" in words
    assert "INVALID" in words
    assert "a p99 with bounds needs 473" in words
    assert "governor" in words
    assert "powersave" in words


def test_files_beside_the_page_exist(page: str, rendered: Rendered) -> None:
    local = [
        href for href in Elements(page).values("href")
        if not href.startswith(("#", "..", "data:"))
    ]  # fmt: skip
    assert len(local) >= 5 + 3 * 4
    assert all((rendered.folder / href).is_file() for href in local)


@pytest.mark.parametrize(
    ("kind", "said", "unsaid"),
    [
        ("begun", "Incomplete.", "figure-overhead"),
        ("native_only", "no system has been compared", "What failed"),
        ("all_failed", "RuntimeError: no", "figure-warmup"),
    ],
)
def test_sparse_results_give_a_page(
    kind: str, said: str, unsaid: str, request: pytest.FixtureRequest, rendered: Rendered
) -> None:
    analysis, trials = request.getfixturevalue(kind)
    page = page_html(analysis, trials, rendered.folder.parent, [])
    assert said in page
    assert unsaid not in page
    assert "None" not in Elements(page[page.index("<body") :]).words
    ids = Elements(page).values("id")
    assert len(ids) == len(set(ids))


def test_slugs_are_safe_anchors() -> None:
    assert slug("<script>alert('%_&')</script>") == "script-alert-script"
