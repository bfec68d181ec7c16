"""`init`: a private home, a key outside of it, an empty signed journal; once, and whole."""

import os
import stat
from pathlib import Path

import pytest
from tests.support.written_journal import Ran, remediation

from remediation.settings import Home, Settings


@pytest.fixture
def state(tmp_path: Path) -> tuple[str, str]:
    return ("XDG_STATE_HOME", str(tmp_path / "state"))


def init(tmp_path: Path, *options: str, state: tuple[str, str]) -> Ran:
    return remediation("--home", str(tmp_path / "home"), "init", *options, env=[state])


def test_a_new_home_is_complete_and_verifies(tmp_path: Path, state: tuple[str, str]) -> None:
    ran = init(tmp_path, "--json", state=state)
    assert ran.status == 0, ran.err
    answer = ran.json
    assert isinstance(answer, dict)
    assert answer["made"] is True
    assert answer["origin"].startswith(f"{answer['host']}/remediation/")
    assert answer["vkey"].startswith(f"{answer['origin']}+")
    assert answer["keys"] == str(tmp_path / "state" / "remediation" / answer["host"])
    verified = remediation("journal", "verify", "--vkey", answer["vkey"], "--json", "--home", str(tmp_path / "home"), env=[state])
    assert verified.status == 0, verified.err
    assert verified.json["size"] == 0  # type: ignore[index]


def test_a_new_home_and_its_keys_are_private(tmp_path: Path, state: tuple[str, str]) -> None:
    assert init(tmp_path, "--id", "atlas", state=state).status == 0
    keys = tmp_path / "state" / "remediation" / "atlas"
    for private, mode in (
        (tmp_path / "home", 0o700),
        (keys, 0o700),
        (keys / "signing.key", 0o600),
        (tmp_path / "home" / "remediation.toml", 0o600),
    ):
        assert stat.S_IMODE(private.stat().st_mode) == mode, private
    assert not list((tmp_path / "home").rglob("signing*"))
    assert (tmp_path / "home" / ".gitignore").read_text() == "*\n"


def test_the_settings_of_a_new_home_are_the_defaults_with_an_id_of_its_own(tmp_path: Path, state: tuple[str, str]) -> None:
    init(tmp_path, state=state)
    settings = Settings.of(Home(tmp_path / "home"))
    assert settings.host.id
    assert settings.digest() == Settings(base=tmp_path / "home", host={"id": settings.host.id}).digest()


def test_doing_it_again_changes_nothing(tmp_path: Path, state: tuple[str, str]) -> None:
    first = init(tmp_path, "--json", state=state).json
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "home").iterdir() if not path.name.startswith("journal")}
    again = init(tmp_path, "--json", state=state)
    assert again.status == 0
    assert again.json == {**first, "made": False}  # type: ignore[dict-item]
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_settings_that_are_there_already_are_used_as_they_are(tmp_path: Path, state: tuple[str, str]) -> None:
    (tmp_path / "home").mkdir()
    text = f'[host]\nid = "mine"\n[keys]\ndir = "{tmp_path / "vault"}"\n'
    (tmp_path / "home" / "remediation.toml").write_text(text)
    assert init(tmp_path, state=state).status == 0
    assert (tmp_path / "home" / "remediation.toml").read_text() == text
    assert (tmp_path / "vault" / "signing.key").exists()


def test_settings_beside_a_dot_home_are_used(tmp_path: Path, state: tuple[str, str]) -> None:
    (tmp_path / "remediation.toml").write_text('[host]\nid = "beside"\n')
    ran = remediation("init", "--json", cwd=tmp_path, env=[state])
    assert ran.status == 0, ran.err
    assert ran.json["host"] == "beside"  # type: ignore[index]
    assert not (tmp_path / ".remediation" / "remediation.toml").exists()


@pytest.mark.parametrize("id_", ["Atlas", "..", "a/b", ""])
def test_an_impossible_id_leaves_no_settings_behind(id_: str, tmp_path: Path, state: tuple[str, str]) -> None:
    ran = init(tmp_path, "--id", id_, state=state)
    assert (ran.status, "id" in ran.err) == (2, True)
    assert not (tmp_path / "home" / "remediation.toml").exists()
    assert not (tmp_path / "state").exists()


def test_another_id_than_that_of_the_settings_is_wrong_use(tmp_path: Path, state: tuple[str, str]) -> None:
    init(tmp_path, "--id", "one", state=state)
    assert init(tmp_path, "--id", "two", state=state).status == 2
    assert init(tmp_path, "--id", "one", state=state).status == 0


def test_a_project_folder_is_not_made_a_home(tmp_path: Path, state: tuple[str, str]) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "main.py").write_text("")
    ran = init(tmp_path, state=state)
    assert (ran.status, "not empty" in ran.err) == (2, True)
    assert os.listdir(tmp_path / "home") == ["main.py"]


def test_keys_that_know_a_journal_are_not_given_a_new_one(tmp_path: Path, state: tuple[str, str]) -> None:
    init(tmp_path, state=state)
    remediation("report", "--code", "X", "--subsystem", "y", "--subject", "z", "--home", str(tmp_path / "home"), env=[state])
    assert remediation("run", "--once", "--home", str(tmp_path / "home"), env=[state]).status == 0
    for file in (tmp_path / "home").glob("journal.sqlite3*"):
        file.unlink()
    assert init(tmp_path, state=state).status == 4
