"""Every page can be reached from the index, and no link into the repository is broken."""

import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from markdown_it import MarkdownIt
from markdown_it.token import Token
from tests.support import repository

PAGES = [*repository.documents(), repository.ROOT / "CHANGELOG.md", *sorted((repository.ROOT / "proposals").glob("*.md"))]


def tokens(text: str) -> Iterator[Token]:
    for token in MarkdownIt().parse(text):
        yield token
        yield from token.children or ()


def targets(page: Path) -> list[str]:
    found = [token.attrs.get("href") or token.attrs.get("src") for token in tokens(page.read_text())]
    return [str(target) for target in found if target and not re.match(r"[a-z]+:", str(target))]


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub makes of headings."""
    parsed = list(MarkdownIt().parse(page.read_text()))
    headings = [after.content for token, after in pairwise(parsed) if token.type == "heading_open"]
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=repository.name)
def test_the_links_of_a_page_lead_somewhere(page: Path) -> None:
    for target in targets(page):
        name, _, anchor = target.partition("#")
        linked = (page.parent / name).resolve() if name else page
        assert linked.is_relative_to(repository.ROOT), f"{target} leaves the repository"
        assert linked.exists(), f"{target} does not exist"
        assert not anchor or linked.suffix != ".md" or anchor in anchors(linked), f"{target}: no such heading"


def test_every_page_is_in_the_index() -> None:
    index = repository.ROOT / "docs" / "README.md"
    listed = {(index.parent / target.partition("#")[0]).resolve() for target in targets(index)}
    pages = {path for path in (repository.ROOT / "docs").rglob("*.md") if path.parent.name != "adr" and path != index}
    assert not {repository.name(page) for page in pages - listed}, "add it to docs/README.md"
