"""The shape of the source: short files, packages that say what they are for, nothing left for later."""

import ast
import re
from pathlib import Path

import pytest
from tests.support import repository

MODULES = sorted(repository.SOURCE.rglob("*.py"))
PACKAGES = sorted({module.parent for module in MODULES})
LONGEST = 350
NAMES_THAT_SAY_NOTHING = {"cogs", "common", "helper", "helpers", "misc", "util", "utils"}


@pytest.mark.parametrize("module", MODULES, ids=repository.name)
def test_a_module_is_short_enough_to_be_read(module: Path) -> None:
    lines = len(module.read_text().splitlines())
    assert lines <= LONGEST, f"{lines} lines; split it where its subject splits"


@pytest.mark.parametrize("module", MODULES, ids=repository.name)
def test_a_module_leaves_nothing_for_later(module: Path) -> None:
    left = re.findall(r".*\b(?:TODO|FIXME|XXX|HACK|raise NotImplementedError)\b.*", module.read_text())
    assert not left, "finish it or leave it out"


@pytest.mark.parametrize("module", MODULES, ids=repository.name)
def test_a_module_is_named_after_what_it_holds(module: Path) -> None:
    assert not set(module.relative_to(repository.SOURCE).with_suffix("").parts) & NAMES_THAT_SAY_NOTHING


@pytest.mark.parametrize("package", PACKAGES, ids=repository.name)
def test_a_package_says_what_it_is_for(package: Path) -> None:
    init = package / "__init__.py"
    assert init.is_file(), "a folder with modules is a package: give it an __init__.py with a docstring"
    assert ast.get_docstring(ast.parse(init.read_text())), "say what it is for, and what it must not do"


def test_the_package_is_typed() -> None:
    assert (repository.SOURCE / "py.typed").is_file(), "without it, type checkers ignore our annotations"
