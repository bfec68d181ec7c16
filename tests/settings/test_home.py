"""The home: where it is, how it is made, and what it must not be made in."""

import os
import stat
from pathlib import Path

import pytest

from remediation.errors import ConfigurationError
from remediation.settings import Home, Settings
from remediation.settings.home import default_keys


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_the_option_goes_before_the_environment_and_that_before_the_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("REMEDIATION_HOME", raising=False)
    assert Home.locate().root == tmp_path / ".remediation"
    monkeypatch.setenv("REMEDIATION_HOME", "env")
    assert Home.locate().root == tmp_path / "env"
    assert Home.locate("option").root == tmp_path / "option"
    assert Home.locate(Path("/srv/option")).root == Path("/srv/option")


def test_an_empty_environment_variable_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("REMEDIATION_HOME", "")
    assert Home.locate().root == tmp_path / ".remediation"


def test_a_home_is_private_whatever_the_umask(tmp_path: Path) -> None:
    home = Home(tmp_path / "a" / "home", keys_folder=tmp_path / "b" / "keys")
    before = os.umask(0)
    try:
        home.make()
    finally:
        os.umask(before)
    for folder in (home.root, home.inbox, home.blobs, home.locks, home.scratch, home.sentinels, home.keys):
        assert mode(folder) == 0o700
    assert (home.root / ".gitignore").read_text() == "*\n"
    assert home.made


def test_making_a_home_again_changes_nothing(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    home.make()
    (home.root / ".gitignore").write_text("mine\n")
    (home.inbox / "report").write_text("x")
    home.make()
    assert (home.root / ".gitignore").read_text() == "mine\n"
    assert (home.inbox / "report").exists()


def test_an_empty_folder_with_a_configuration_becomes_a_private_home(tmp_path: Path) -> None:
    folder = tmp_path / "home"
    folder.mkdir(mode=0o755)
    (folder / "remediation.toml").write_text("")
    Home(folder).make()
    assert mode(folder) == 0o700


def test_a_folder_with_other_things_in_it_is_no_place_for_a_home(tmp_path: Path) -> None:
    (tmp_path / "project.py").write_text("")
    with pytest.raises(ConfigurationError, match=r"not empty and no home .*'project\.py'"):
        Home(tmp_path).make()
    assert sorted(os.listdir(tmp_path)) == ["project.py"]


def test_a_file_in_the_way_is_told(tmp_path: Path) -> None:
    (tmp_path / "home").write_text("")
    with pytest.raises(ConfigurationError, match="is a file"):
        Home(tmp_path / "home").make()
    with pytest.raises(ConfigurationError, match="can't be made"):
        Home(tmp_path / "home" / "deeper").make()


def test_what_is_no_home_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="init"):
        Home(tmp_path).require()


def test_keys_lie_under_the_state_folder_of_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/somebody")
    monkeypatch.setenv("XDG_STATE_HOME", "/var/state")
    assert default_keys("atlas") == Path("/var/state/remediation/atlas")
    monkeypatch.setenv("XDG_STATE_HOME", "relative")
    assert default_keys("atlas") == Path("/home/somebody/.local/state/remediation/atlas")
    monkeypatch.delenv("XDG_STATE_HOME")
    assert default_keys("atlas") == Path("/home/somebody/.local/state/remediation/atlas")


def test_the_keys_of_a_home_are_known_through_its_settings(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"Settings\.of"):
        _ = Home(tmp_path).keys
    home = Settings(base=tmp_path, host={"id": "atlas"}, keys={"dir": tmp_path / "keys"}).home
    assert home.keys == tmp_path / "keys"
    assert home.head_note == tmp_path / "keys" / "head.note"
    assert home.signing_key == tmp_path / "keys" / "signing.key"


def test_a_home_that_the_file_beside_it_names_is_found_by_that_file(tmp_path: Path) -> None:
    (tmp_path / "remediation.toml").write_text('[host]\nid = "app"\nhome = "state"\n')
    (tmp_path / "state").mkdir()
    assert Settings.of(Home(tmp_path / "state")).host.id == "app"
    with pytest.raises(ConfigurationError, match="elsewhere"):
        Settings.of(Home(tmp_path / "elsewhere"))
