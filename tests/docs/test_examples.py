"""The examples of each page are run; `tests/support/examples.py` says how a page marks them."""

from pathlib import Path

import pytest
from tests.support import examples, repository


@pytest.mark.parametrize("page", repository.documents(), ids=repository.name)
def test_the_examples_of_a_page_do_what_it_says(page: Path, tmp_path: Path) -> None:
    examples.run_page(repository.name(page), page.read_text(), tmp_path)
