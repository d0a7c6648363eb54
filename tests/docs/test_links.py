"""Every relative link and image of the documentation leads somewhere."""

from __future__ import annotations

from pathlib import Path

from tests.docs.markdown import ROOT, Page

_ELSEWHERE = ("http://", "https://", "mailto:")


def broken(page: Page, target: str) -> str | None:
    """Why ``target``, as ``page`` has it, leads nowhere."""
    where, _, anchor = target.partition("#")
    path = (page.path.parent / where).resolve() if where else page.path
    shown = f"{page.path.relative_to(ROOT)} → {target}"
    if not path.exists():
        return f"{shown}: there is no such file"
    if not path.is_relative_to(ROOT):
        return f"{shown}: it is outside the project"
    if anchor and anchor not in Page(path).anchors:
        return f"{shown}: there is no such heading"
    return None


def test_every_relative_link_and_image_resolves(pages: list[Page]) -> None:
    links = [
        (page, link)
        for page in pages
        for link in page.links
        if not link.startswith(_ELSEWHERE)
    ]  # fmt: skip
    assert len(links) > 40
    assert [reason for page, link in links if (reason := broken(page, link))] == []


def test_the_readme_shows_a_report(pages: list[Page]) -> None:
    (readme,) = (page for page in pages if page.path == ROOT / "README.md")
    for picture in ("docs/images/report.png", "docs/images/overhead.png"):
        assert picture in readme.links
        assert (ROOT / picture).read_bytes().startswith(b"\x89PNG")


def test_a_link_that_leads_nowhere_is_found(tmp_path: Path) -> None:
    page = Page(ROOT / "README.md")
    assert broken(page, "docs/nothing.md") is not None
    assert broken(page, "docs/method.md#no-such-rule") is not None
    assert broken(page, "docs/errors.md#exit-codes") is None


def test_every_page_is_in_the_table_of_contents() -> None:
    index = Page(ROOT / "docs" / "index.md").text
    names = {path.stem for path in (ROOT / "docs").glob("*.md")} - {"index"}
    listed = {line.strip() for line in index.splitlines()}
    assert names <= listed
