"""The examples of each page are run; `tests/support/examples.py` says how a page marks them."""

import re
from pathlib import Path

import pytest
from tests.support import examples, repository


@pytest.mark.parametrize("page", repository.documents(), ids=repository.name)
def test_the_examples_of_a_page_do_what_it_says(page: Path, tmp_path: Path) -> None:
    examples.run_page(repository.name(page), page.read_text(), tmp_path)


def test_the_minute_of_the_readme_and_then_the_quickstart_can_be_followed_by_one_user(tmp_path: Path) -> None:
    quickstart, _, _ = (repository.ROOT / "docs" / "tutorial" / "quickstart.md").read_text().partition("## 3.")
    for name, text in (("README.md", (repository.ROOT / "README.md").read_text()), ("quickstart.md", quickstart)):
        assert examples.run_page(name, text, tmp_path / name, home=tmp_path / "home") > 0


def test_no_two_pages_make_a_home_of_one_id() -> None:
    """Whoever follows both on one machine would be refused: the keys are found by the id."""
    pages: dict[str, set[str]] = {}
    for page in (page for page in repository.documents() if page.parent.name != "reference"):
        for id_ in re.findall(r'^id = "([^"]+)"$|init --id (\S+)', page.read_text("utf-8"), re.MULTILINE):
            pages.setdefault("".join(id_), set()).add(page.name)
    assert pages
    assert [id_ for id_, names in pages.items() if len(names) > 1] == []
