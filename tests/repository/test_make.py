"""The two commands of the README set themselves up, and say what is missing when they can't."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests.support import repository

MAKEFILE = (repository.ROOT / "Makefile").read_text()


def make(*arguments: str, cwd: Path = repository.ROOT, path: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run make as a person would: without what the make that runs these tests hands down, its variables among that."""
    handed_down = {"MAKEFLAGS", "MAKEOVERRIDES", "MAKELEVEL", "MFLAGS", *re.findall(r"^(\w+) +\?=", MAKEFILE, re.MULTILINE)}
    environment = {name: value for name, value in os.environ.items() if name not in handed_down}
    if path is not None:
        environment["PATH"] = f"{path}{os.pathsep}{environment['PATH']}"
    return subprocess.run(["make", *arguments], cwd=cwd, env=environment, capture_output=True, text=True, check=False, timeout=60)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """What `make` needs to set up an environment, without one."""
    place = tmp_path / "checkout"
    place.mkdir()
    for name in ("Makefile", "pyproject.toml", "requirements.lock"):
        shutil.copy(repository.ROOT / name, place)
    return place


def interpreter(place: Path, name: str, script: str) -> None:
    place.mkdir(exist_ok=True)
    (place / name).write_text(f"#!/bin/sh\n{script}\n")
    (place / name).chmod(0o755)


def test_make_alone_lists_every_target() -> None:
    listed = make()
    assert listed.returncode == 0
    targets = set(re.findall(r"^\.PHONY: (.*)$", MAKEFILE, re.MULTILINE)[0].split())
    assert set(re.findall(r"^make ([a-z-]+)", listed.stdout, re.MULTILINE)) == targets


@pytest.mark.parametrize("target", ["demo", "test", "check", "bench", "format"])
def test_a_target_makes_the_environment_that_it_needs(target: str, checkout: Path) -> None:
    planned = make("--dry-run", target, cwd=checkout)
    assert planned.returncode == 0
    assert "--require-hashes" in planned.stdout


@pytest.mark.parametrize(
    ("script", "case"),
    [("exit 127", "a shim that refuses to run"), ("exit 1", "an interpreter that is too old")],
)
def test_without_a_usable_interpreter_make_says_what_to_install(script: str, case: str, checkout: Path, tmp_path: Path) -> None:
    for name in ("python3", "python3.13", "python3.12", "python3.11"):
        interpreter(tmp_path / "bin", name, script)
    ended = make("test", cwd=checkout, path=tmp_path / "bin")
    assert ended.returncode != 0
    assert "No Python 3.11 or newer was found; looked for: python3 " in ended.stderr
    assert not (checkout / ".venv").exists()


def test_an_interpreter_that_is_not_there_is_named(checkout: Path) -> None:
    ended = make("demo", "PYTHON=/nowhere/python3", cwd=checkout)
    assert ended.returncode != 0
    assert "looked for: /nowhere/python3." in ended.stderr
    assert "make demo PYTHON=" in ended.stderr


def test_without_ensurepip_make_names_the_package_that_brings_it(checkout: Path, tmp_path: Path) -> None:
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules" / "ensurepip.py").write_text("raise ImportError('not installed')\n")
    interpreter(tmp_path / "bin", "bare", f'PYTHONPATH={tmp_path / "modules"} exec {sys.executable} "$@"')
    ended = make("test", "PYTHON=bare", cwd=checkout, path=tmp_path / "bin")
    assert ended.returncode != 0
    assert "bare cannot make virtual environments" in ended.stderr
    assert "apt-get install python3-venv" in ended.stderr


def test_an_interpreter_without_ensurepip_is_passed_over_for_one_that_has_it(checkout: Path, tmp_path: Path) -> None:
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules" / "ensurepip.py").write_text("raise ImportError('not installed')\n")
    interpreter(tmp_path / "bin", "bare", f'PYTHONPATH={tmp_path / "modules"} exec {sys.executable} "$@"')
    # The second one passes the questions, and then shows that it was chosen.
    interpreter(tmp_path / "bin", "full", f'case "$1" in -c) exec {sys.executable} "$@";; esac; echo "full: $*"; exit 9')
    ended = make("test", "PYTHON=bare full", cwd=checkout, path=tmp_path / "bin")
    assert "full: -m venv --clear .venv" in ended.stdout


def test_a_set_up_that_failed_is_not_taken_for_a_finished_one(checkout: Path) -> None:
    (checkout / "requirements.lock").write_text("pluggy==1.7.0 --hash=sha256:" + "0" * 64 + "\n--no-index\n")
    assert make("setup", cwd=checkout).returncode != 0
    assert (checkout / ".venv" / "bin" / "python").exists()
    assert not (checkout / ".venv" / ".installed").exists()


@pytest.mark.parametrize("failing", ["", "test", "check", "test check"])
def test_continuous_integration_runs_both_and_passes_only_if_both_do(failing: str, tmp_path: Path) -> None:
    (tmp_path / ".ci").mkdir()
    shutil.copy(repository.ROOT / ".ci" / "run", tmp_path / ".ci")
    interpreter(
        tmp_path / "bin",
        "make",
        f"""for target; do :; done
        [ "$target" = test ] && echo "==== 7 passed in 0.42s ===="
        echo "$target" >> ran
        case " {failing} " in *" $target "*) exit 2;; esac""",
    )
    ended = subprocess.run(
        ["bash", tmp_path / ".ci" / "run"],
        env=os.environ | {"PATH": f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (tmp_path / "ran").read_text().split() == ["test", "check"]
    assert (ended.returncode != 0) == bool(failing)
    assert ended.stdout.endswith("==== 7 passed in 0.42s ====\n"), "the last line is what pytest counted"


def test_the_continuous_integration_command_is_executable() -> None:
    assert os.access(repository.ROOT / ".ci" / "run", os.X_OK)
