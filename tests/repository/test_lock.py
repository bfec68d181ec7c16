"""requirements.lock pins everything that the project and its development need, by hash, and names no address."""

import re
import tomllib

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from tests.support import repository

LOCK = (repository.ROOT / "requirements.lock").read_text()
PROJECT = tomllib.loads((repository.ROOT / "pyproject.toml").read_text())["project"]
# One requirement is a line with its continuation lines; comments explain where it came from.
PINNED = {
    canonicalize_name(requirement.name): (requirement, text)
    for text in re.findall(r"^[A-Za-z0-9].*?(?<!\\)$", LOCK, re.MULTILINE | re.DOTALL)
    for requirement in [Requirement(text.split("\\")[0].strip())]
}


@pytest.mark.parametrize("pinned", PINNED)
def test_a_requirement_has_one_version_and_its_hashes(pinned: str) -> None:
    requirement, text = PINNED[pinned]
    assert re.fullmatch(r"==[0-9][0-9a-z.]*", str(requirement.specifier))
    assert requirement.url is None
    assert re.findall(r"--hash=sha256:[0-9a-f]{64}\b", text)


@pytest.mark.parametrize("wanted", [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["dev"]])
def test_the_lock_holds_what_the_project_asks_for(wanted: str) -> None:
    requirement = Requirement(wanted)
    assert canonicalize_name(requirement.name) in PINNED, "run `make lock`"
    pinned, _ = PINNED[canonicalize_name(requirement.name)]
    (version,) = [specifier.version for specifier in pinned.specifier]
    assert requirement.specifier.contains(version), "run `make lock`"


def test_the_lock_names_no_address_and_no_option() -> None:
    assert "://" not in LOCK
    assert "@" not in LOCK
    options = {line.split("=")[0].strip() for line in LOCK.splitlines() if line.strip().startswith("-")}
    assert options == {"--hash"}
