"""The examples of each page are run; `tests/support/examples.py` says how a page marks them."""

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
