"""What can stand in remediation.toml, and what the person who wrote it is told when it can't be used."""

import contextlib
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remediation.errors import ConfigurationError
from remediation.settings import Home, RunbookTable, Settings

FULL = """
[host]
id = "atlas-1"
plugins = ["my_package.runbooks"]
autoload = ["acme"]

[gate]
profile = "autonomous"
confidence_threshold = 80

[limits]
attempts_per_incident = 2
cooldown = "90s"
changes_per_hour = 5

[effects]
roots = ["/srv/app", "data"]

[effects.disposable]
globs = ["cache/**", "/srv/app/cache/**"]
units = ["app.service"]
argv_prefixes = [["npm", "rebuild"]]
controls = ["resume"]

[ladder]
order = ["b", "a"]

[channels]
command = ["notify", "--json"]
log = false

[runbooks."sqlite-corruption"]
state = "live"
options = {deep = true}

[[sentinels.sqlite]]
path = "app.db"
every = "30s"

[[jobs]]
name = "build-pages"
command = ["python", "scripts/build.py"]
"""


@pytest.fixture(autouse=True)
def _no_home_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REMEDIATION_HOME", raising=False)


def write(folder: Path, text: str) -> Path:
    path = folder / "remediation.toml"
    path.write_text(text)
    return path


def problems(folder: Path, text: str) -> list[str]:
    path = write(folder, text)
    with pytest.raises(ConfigurationError) as caught:
        Settings.load(path)
    lines = str(caught.value).splitlines()
    assert all(line.startswith(f"{path}: ") for line in lines)
    return [line.removeprefix(f"{path}: ") for line in lines]


def test_every_table_of_the_design_is_read(tmp_path: Path) -> None:
    settings = Settings.load(write(tmp_path, FULL))
    assert settings.host.id == "atlas-1"
    assert settings.host.autoload == ("acme",)
    assert settings.gate.profile == "autonomous"
    assert settings.limits.cooldown == timedelta(seconds=90)
    assert settings.effects.disposable.argv_prefixes == (("npm", "rebuild"),)
    assert settings.ladder.order == ("b", "a")
    assert settings.channels.command == ("notify", "--json")
    assert settings.runbook("sqlite-corruption") == RunbookTable(state="live", options={"deep": True})
    assert settings.runbook("another") == RunbookTable()
    assert settings.sentinel_tables() == {
        "sqlite": ({"path": "app.db", "every": "30s"},),
        "jobs": ({"name": "build-pages", "command": ["python", "scripts/build.py"]},),
    }


def test_an_empty_file_has_the_careful_defaults(tmp_path: Path) -> None:
    settings = Settings.load(write(tmp_path, ""))
    assert settings.gate.profile == "supervised"
    assert settings.gate.confidence_threshold == 70
    assert settings.limits.attempts_per_incident == 3
    assert settings.limits.cooldown == timedelta(minutes=5)
    assert settings.limits.changes_per_hour == 20
    assert settings.limits.concurrency == 16
    assert settings.effects.roots is None
    assert settings.runbook("any").state == "registered"
    assert settings.host.autoload is True


def test_relative_paths_are_relative_to_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    folder = tmp_path / "app"
    folder.mkdir()
    write(folder, FULL + '[keys]\ndir = "../keys"\n')
    monkeypatch.chdir(elsewhere)
    settings = Settings.load("../app/remediation.toml")
    assert settings.base == folder
    assert settings.effects.roots == (Path("/srv/app"), folder / "data")
    assert settings.effects.disposable.globs == (f"{folder}/cache/**", "/srv/app/cache/**")
    assert settings.home.keys == tmp_path / "keys"


def test_a_tilde_is_the_users_home_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/somebody")
    settings = Settings.load(write(tmp_path, '[effects]\nroots = ["~/app"]\n'))
    assert settings.effects.roots == (Path("/home/somebody/app"),)


def test_no_roots_and_roots_not_set_are_told_apart(tmp_path: Path) -> None:
    assert Settings.load(write(tmp_path, "[effects]\nroots = []\n")).effects.roots == ()
    assert Settings.load(write(tmp_path, "[effects]\n")).effects.roots is None


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ('[gate]\nprofil = "observe"', "[gate] has no key 'profil'; did you mean 'profile'?"),
        ("[gates]\nx = 1", "there is no table [gates]; did you mean [gate]?"),
        ('profile = "observe"', "the key 'profile' stands in no table; it belongs in [gate]"),
        ('[gate]\ncooldown = "1s"', "[gate] has no key 'cooldown'; it belongs in [limits]"),
        ('[gate]\nprofile = "autonomus"', "did you mean 'autonomous'?"),
        ('[gate]\nconfidence_threshold = "70"', "[gate] confidence_threshold must be a whole number, not a string"),
        ("[gate]\nconfidence_threshold = 101", "[gate] confidence_threshold must be at most 100"),
        ("[gate]\nconfidence_threshold = 70.5", "[gate] confidence_threshold must be a whole number, not a decimal number"),
        ("[limits]\nconcurrency = true", "[limits] concurrency must be a whole number, not true or false"),
        ("[limits]\nattempts_per_incident = 0", "[limits] attempts_per_incident must be at least 1"),
        ('[limits]\ncooldown = "soon"', '[limits] cooldown: not a duration: write "30s"'),
        ("[limits]\ncooldown = -1", "[limits] cooldown: a duration can't be negative"),
        ("[limits]\ncooldown = inf", "[limits] cooldown: a duration of more than"),
        ("[limits]\ncooldown = nan", "[limits] cooldown: "),
        ("gate = 3", "[gate] must be a table, not a number"),
        ('[host]\nid = "Atlas"', "[host] id must be 1-63 of a-z"),
        ('[host]\nid = ".."', "[host] id must be 1-63 of a-z"),
        ('[host]\nplugins = "one"', "[host] plugins must be a list, not a string"),
        ("[host]\nplugins = [1]", "[host] plugins, item 1 must be a string, not a number"),
        ("[host]\nautoload = 1", "[host] autoload must be true, false, or a list"),
        ("[effects.disposable]\nargv_prefixes = [[]]", "[effects.disposable] argv_prefixes, item 1 must not be empty"),
        ('[effects.disposable]\nglob = ["x"]', "[effects.disposable] has no key 'glob'; did you mean 'globs'?"),
        ('[runbooks."a.b"]\nstate = "alive"', "[runbooks.\"a.b\"] state must be one of 'registered', 'live' or"),
        ("[runbooks.x]\nstat = 1", "[runbooks.x] has no key 'stat'; did you mean 'state'?"),
        ('[sentinels.sqlite]\npath = "x"', "[sentinels] sqlite is one table; write its header with two brackets"),
        ("[sentinels]\nsqlite = 1", "[sentinels] sqlite must be a list, not a number"),
        ('[jobs]\nname = "x"', "[jobs] is one table; write its header with two brackets"),
        ("[base]\nx = 1", "there is no table [base]"),
    ],
)
def test_a_mistake_is_named_with_its_place_and_its_mending(text: str, sentence: str, tmp_path: Path) -> None:
    (problem,) = problems(tmp_path, text)
    assert sentence in problem


def test_all_problems_are_told_at_once(tmp_path: Path) -> None:
    text = '[gate]\nprofil = 1\nconfidence_threshold = "x"\n[limits]\ncooldown = "x"\n[nothing]\n'
    assert len(problems(tmp_path, text)) == 4


def test_a_syntax_error_is_told_with_its_line(tmp_path: Path) -> None:
    (problem,) = problems(tmp_path, "[gate]\nprofile = observe\n")
    assert "line 2" in problem


def test_a_value_is_not_repeated_in_an_error(tmp_path: Path) -> None:
    assert "hunter2" not in "".join(problems(tmp_path, '[limits]\nconcurrency = "hunter2"\n'))


def test_an_unknown_key_can_not_forge_lines_of_the_error(tmp_path: Path) -> None:
    (problem,) = problems(tmp_path, '[gate]\n"a\\nb\\u001b[31m" = 1\n')
    assert "\x1b" not in problem


@pytest.mark.parametrize("content", [b"\xff\xfe[gate]", None])
def test_a_file_that_can_not_be_read_is_a_configuration_error(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "remediation.toml"
    if content is None:
        path.mkdir()
    else:
        path.write_bytes(content)
    with pytest.raises(ConfigurationError, match=str(path)):
        Settings.load(path)


def test_a_missing_file_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="remediation init"):
        Settings.load(tmp_path / "remediation.toml")


def test_settings_made_in_code_are_checked_alike() -> None:
    with pytest.raises(ConfigurationError, match=r"settings: \[gate\] has no key 'profil'; did you mean 'profile'\?"):
        Settings(gate={"profil": "observe"})


def test_settings_made_in_code_take_values_and_mappings(tmp_path: Path) -> None:
    settings = Settings(base=tmp_path, gate={"profile": "observe"}, runbooks={"x": RunbookTable(state="live")})
    assert settings.gate.profile == "observe"
    assert settings.runbook("x").state == "live"
    assert settings.home.root == tmp_path / ".remediation"


def test_settings_can_not_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Settings().gate = None  # type: ignore[assignment]


def test_the_digest_is_of_the_settings_and_not_of_their_spelling(tmp_path: Path) -> None:
    one = Settings.load(write(tmp_path, '[host]\nid = "a"\n[limits]\ncooldown = "5m"\n')).digest()
    same = Settings.load(write(tmp_path, '# hello\n[limits]\ncooldown = 300\n[host]\nid = "a"\n')).digest()
    other = Settings.load(write(tmp_path, '[host]\nid = "a"\n[limits]\ncooldown = "6m"\n')).digest()
    assert one == same != other
    assert len(one) == 64


def test_settings_survive_being_written_out_and_read_again(tmp_path: Path) -> None:
    settings = Settings.load(write(tmp_path, FULL))
    assert Settings(**settings.model_dump()) == settings
    assert Settings(**settings.model_dump()).digest() == settings.digest()


@given(st.text(max_size=200))
def test_no_text_whatever_raises_anything_but_a_configuration_error(text: str) -> None:
    with contextlib.suppress(ConfigurationError):
        Settings.parse(text, Path("/srv/app/remediation.toml"))


KEYS = st.sampled_from(
    ["host", "gate", "profile", "id", "limits", "cooldown", "runbooks", "x", "jobs", "sentinels", "effects", "roots"]
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(KEYS, VALUES, max_size=6))
def test_no_value_whatever_raises_anything_but_a_configuration_error(tables: dict[str, object]) -> None:
    with contextlib.suppress(ConfigurationError):
        Settings(**tables)


def test_the_home_of_a_file_in_a_home_is_its_folder(tmp_path: Path) -> None:
    Home(tmp_path / "h").make()
    settings = Settings.load(write(tmp_path / "h", ""))
    assert settings.home.root == tmp_path / "h"


def test_the_home_of_any_other_file_is_a_folder_beside_it(tmp_path: Path) -> None:
    assert Settings.load(write(tmp_path, "")).home.root == tmp_path / ".remediation"
    assert Settings.load(write(tmp_path, '[host]\nhome = "state"\n')).home.root == tmp_path / "state"


def test_the_environment_overrides_the_home_in_the_file_and_the_argument_overrides_both(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path, '[host]\nhome = "state"\n')
    monkeypatch.setenv("REMEDIATION_HOME", str(tmp_path / "env"))
    assert Settings.load(path).home.root == tmp_path / "env"
    assert Settings.load(path, home=tmp_path / "argument").home.root == tmp_path / "argument"


def test_a_home_finds_its_settings_in_it_or_beside_it(tmp_path: Path) -> None:
    home = Home(tmp_path / ".remediation")
    home.make()
    write(tmp_path, '[host]\nid = "beside"\n')
    assert Settings.of(home).host.id == "beside"
    assert Settings.of(home).home.root == home.root
    write(home.root, '[host]\nid = "inside"\n')
    assert Settings.of(home).host.id == "inside"


def test_a_host_without_a_configured_id_has_one_that_is_its_homes_own(tmp_path: Path) -> None:
    one, two = (Settings(base=tmp_path / name).host.id for name in ("one", "two"))
    assert one != two
    assert Settings(base=tmp_path / "one").host.id == one
    assert Settings(base=tmp_path, host={"id": one}).host.id == one
