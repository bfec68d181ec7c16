"""The files that every repository has: licence, changelog, hooks, decisions."""

import hashlib
import re
import tomllib
from pathlib import Path

import pytest
import yaml
from tests.support import repository

DECISIONS = sorted(path for path in (repository.ROOT / "docs" / "adr").glob("*.md") if path.name[0].isdigit())


def test_the_licence_is_the_apache_licence_to_the_letter() -> None:
    # The text as https://www.apache.org/licenses/LICENSE-2.0.txt serves it.
    digest = hashlib.sha256((repository.ROOT / "LICENSE").read_bytes()).hexdigest()
    assert digest == "cfc7749b96f63bd31c3c42b5c471bf756814053e847c10f3eb003417bc523d30"


def test_the_changelog_tells_of_this_version() -> None:
    project = tomllib.loads((repository.ROOT / "pyproject.toml").read_text())["project"]
    changelog = (repository.ROOT / "CHANGELOG.md").read_text()
    headings = re.findall(r"^## \[(.+?)\](?: - \d{4}-\d{2}-\d{2})?$", changelog, re.MULTILINE)
    assert headings == re.findall(r"^## (?:\[(.+?)\]).*$", changelog, re.MULTILINE), "a release has its date"
    assert headings[0] == "Unreleased"
    assert project["version"] in headings or len(headings) == 1


def test_the_commit_hooks_fetch_nothing() -> None:
    configured = yaml.safe_load((repository.ROOT / ".pre-commit-config.yaml").read_text())
    assert [repo["repo"] for repo in configured["repos"]] == ["local"]
    hooks = [hook for repo in configured["repos"] for hook in repo["hooks"]]
    assert hooks
    assert {hook["language"] for hook in hooks} == {"system"}
    assert all(hook["entry"].startswith(".venv/bin/") for hook in hooks)


@pytest.mark.parametrize("decision", DECISIONS, ids=repository.name)
def test_a_decision_follows_the_template_and_is_listed(decision: Path) -> None:
    text = decision.read_text()
    number = int(decision.name[:4])
    assert re.match(rf"# {number}\. \S", text), "the heading starts with the number of the file"
    assert re.search(r"^Status: (?:proposed|accepted|superseded by \[\d+\]\(\d{4}-[a-z0-9-]+\.md\))", text, re.MULTILINE)
    template = (repository.ROOT / "docs" / "adr" / "template.md").read_text()
    assert re.findall(r"^## .*$", text, re.MULTILINE) == re.findall(r"^## .*$", template, re.MULTILINE)
    index = (repository.ROOT / "docs" / "adr" / "README.md").read_text()
    assert f"({decision.name})" in index


def test_no_two_decisions_have_one_number() -> None:
    numbers = [decision.name[:4] for decision in DECISIONS]
    assert len(numbers) == len(set(numbers))
