"""`init`: a private home, a key outside of it, an empty signed journal; once, and whole."""

import json
import os
import shutil
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


def test_a_second_home_with_the_id_of_another_is_refused_and_leaves_nothing(tmp_path: Path, state: tuple[str, str]) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "remediation.toml").write_text('[host]\nid = "atlas-1"\n')
    assert remediation("init", cwd=tmp_path / "one", env=[state]).status == 0
    keys = tmp_path / "state" / "remediation" / "atlas-1"
    before = {path: path.read_bytes() for path in keys.iterdir()}
    refused = remediation("init", cwd=tmp_path / "two", env=[state])
    assert refused.status == 2
    assert f"the keys in {keys} belong to the home {tmp_path / 'one' / '.remediation'}" in refused.err
    assert "choose another id" in refused.err
    assert os.listdir(tmp_path / "two") == ["remediation.toml"]
    assert {path: path.read_bytes() for path in keys.iterdir()} == before
    assert remediation("run", "--once", cwd=tmp_path / "one", env=[state]).status == 0


def test_an_id_that_is_taken_leaves_no_settings_behind(tmp_path: Path, state: tuple[str, str]) -> None:
    assert remediation("--home", str(tmp_path / "one"), "init", "--id", "atlas-1", env=[state]).status == 0
    assert remediation("--home", str(tmp_path / "two"), "init", "--id", "atlas-1", env=[state]).status == 2
    assert not (tmp_path / "two").exists()
    assert remediation("--home", str(tmp_path / "two"), "init", "--id", "atlas-2", env=[state]).status == 0


def test_a_home_that_moved_goes_on_and_keeps_its_id_from_others(tmp_path: Path, state: tuple[str, str]) -> None:
    assert init(tmp_path, "--id", "atlas-1", state=state).status == 0
    (tmp_path / "home").rename(tmp_path / "moved")
    moved = ("--home", str(tmp_path / "moved"))
    assert remediation(*moved, "run", "--once", env=[state]).status == 0
    assert "changed" in remediation(*moved, "init", env=[state]).err
    refused = init(tmp_path, "--id", "atlas-1", state=state)
    assert (refused.status, str(tmp_path / "moved") in refused.err) == (2, True)
    assert not (tmp_path / "home").exists()


def test_a_home_whose_folder_is_gone_is_not_made_again_until_its_keys_are_removed(tmp_path: Path, state: tuple[str, str]) -> None:
    (tmp_path / "remediation.toml").write_text('[host]\nid = "atlas-1"\n')
    assert remediation("init", cwd=tmp_path, env=[state]).status == 0
    assert remediation("run", "--once", cwd=tmp_path, env=[state]).status == 0
    shutil.rmtree(tmp_path / ".remediation")
    refused = remediation("init", cwd=tmp_path, env=[state])
    keys = tmp_path / "state" / "remediation" / "atlas-1"
    assert (refused.status, f"remove {keys}" in refused.err) == (4, True)
    assert not (tmp_path / ".remediation").exists()
    shutil.rmtree(keys)
    assert remediation("init", cwd=tmp_path, env=[state]).status == 0


def test_a_home_under_another_id_is_told_apart_from_one_that_lost_its_head(tmp_path: Path, state: tuple[str, str]) -> None:
    settings = tmp_path / "remediation.toml"
    settings.write_text('[host]\nid = "atlas-1"\n')
    assert remediation("init", cwd=tmp_path, env=[state]).status == 0
    settings.write_text('[host]\nid = "atlas-2"\n')
    for command in (["init"], ["run", "--once"], ["journal", "recover", "--yes"]):
        refused = remediation(*command, cwd=tmp_path, env=[state])
        assert refused.status == 2, command
        assert "is of the host atlas-1, the settings say atlas-2" in refused.err
    assert not (tmp_path / "state" / "remediation" / "atlas-2").exists()
    settings.write_text('[host]\nid = "atlas-1"\n')
    assert remediation("run", "--once", cwd=tmp_path, env=[state]).status == 0


def test_a_home_under_the_id_of_another_is_told_so(tmp_path: Path, state: tuple[str, str]) -> None:
    assert init(tmp_path, "--id", "atlas-1", state=state).status == 0
    other = ("--home", str(tmp_path / "other"))
    assert remediation(*other, "init", "--id", "atlas-2", env=[state]).status == 0
    (tmp_path / "other" / "remediation.toml").write_text('[host]\nid = "atlas-1"\n')
    refused = remediation(*other, "run", "--once", env=[state])
    assert (refused.status, "is of the host atlas-2, the settings say atlas-1" in refused.err) == (2, True)


@pytest.mark.parametrize("theirs", ["nothing", "an empty folder", "another home"])
def test_who_looks_at_a_home_under_another_id_is_told_whose_journal_it_is(
    tmp_path: Path, state: tuple[str, str], theirs: str
) -> None:
    home = ("--home", str(tmp_path / "home"))
    assert init(tmp_path, "--id", "atlas-1", state=state).status == 0
    keys = tmp_path / "state" / "remediation"
    vkey = (keys / "atlas-1" / "signing.vkey").read_text().strip()
    if theirs == "another home":
        assert remediation("--home", str(tmp_path / "other"), "init", "--id", "atlas-2", env=[state]).status == 0
    elif theirs == "an empty folder":
        (keys / "atlas-2").mkdir()
    (tmp_path / "home" / "remediation.toml").write_text('[host]\nid = "atlas-2"\n')
    before = sorted(keys.rglob("*"))
    told = 'is of the host atlas-1, the settings say atlas-2: set [host] id = "atlas-1" again'
    for command in (["verify"], ["verify", "--json"], ["export"], ["prove", "0"]):
        ran = remediation(*home, "journal", *command, env=[state])
        assert (ran.status, told in ran.err, "recover" in ran.err) == (2, True, False), command
    checked = remediation(*home, "journal", "verify", "--vkey", vkey, "--json", env=[state])
    assert checked.status == 5
    assert told in checked.out.replace('\\"', '"')
    assert "recover" not in checked.out
    examined = remediation(*home, "doctor", "--json", env=[state])
    problems = [found for found in json.loads(examined.out)["findings"] if found["level"] == "problem"]
    assert examined.status == 1
    assert [problem["check"] for problem in problems] == ["keys"]
    assert told in problems[0]["message"]
    assert problems[0]["mend"] == f"edit {tmp_path / 'home' / 'remediation.toml'}"
    assert sorted(keys.rglob("*")) == before
