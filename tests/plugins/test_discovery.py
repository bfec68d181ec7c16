"""Discovery: what plugins bring, by every way in which they come, and what is refused in words."""

from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import pytest
from pydantic import BaseModel

from remediation.authoring import Sentinel, SentinelOptions, hookimpl
from remediation.discovery import Plugins, discover
from remediation.errors import RegistrationError
from remediation.settings import Settings


def found(tmp_path: Path, *plugins: Any, **tables: Any) -> Plugins:
    return discover(Settings(base=tmp_path, **{"host": {"autoload": False}, **tables}), plugins)


class DiskOptions(SentinelOptions):
    folder: str = "/"


class Disk(Sentinel[DiskOptions]):
    kind: ClassVar[str] = "disk"

    @property
    def name(self) -> str:
        return f"disk:{self.options.folder}"

    async def check(self, watch: Any) -> None:
        await watch.clear("DISK_FULL", "storage", self.options.folder)


class Brings:
    """A plugin that is an object."""

    def __init__(self, *sentinels: Any) -> None:
        self.sentinels = sentinels

    @hookimpl
    def remediation_sentinels(self) -> Any:
        return self.sentinels


def test_several_objects_of_one_class_are_several_plugins(tmp_path: Path) -> None:
    class Second(Disk):
        kind: ClassVar[str] = "second"

    made = found(tmp_path, Brings(Disk), Brings(Second), sentinels={"disk": [{}], "second": [{"folder": "/srv"}]})
    assert [sentinel.name for sentinel in made.sentinels(Settings(sentinels={"disk": [{}], "second": [{"folder": "/srv"}]}))] == [
        "disk:/",
        "disk:/srv",
    ]


def test_the_same_plugin_twice_is_one(tmp_path: Path) -> None:
    brings = Brings(Disk)
    assert len(found(tmp_path, brings, brings).sentinels(Settings(sentinels={"disk": [{}]}))) == 1


def test_a_sentinel_reads_its_options_by_the_model_that_it_names(tmp_path: Path) -> None:
    (sentinel,) = found(tmp_path, Brings(Disk)).sentinels(Settings(sentinels={"disk": [{"folder": "/srv", "every": "1h"}]}))
    assert sentinel.options == DiskOptions(folder="/srv", every="1h")

    class Plain(Sentinel):
        kind: ClassVar[str] = "plain"
        name = "plain"

        async def check(self, watch: Any) -> None: ...

    assert Plain.options_type is SentinelOptions


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"disk": [{"foldr": "/"}]}, r"^\[\[sentinels.disk\]\] number 1 has no key 'foldr'; did you mean 'folder'\?$"),
        ({"disk": [{"q": 1}]}, r"^\[\[sentinels.disk\]\] number 1 has no key 'q'; it has every, folder$"),
        ({"disk": [{}, {"folder": 3}]}, r"^\[\[sentinels.disk\]\] number 2 folder must be a string, not a number$"),
        ({"disk": [{"every": "soon"}]}, r"^\[\[sentinels.disk\]\] number 1 every: not a duration: write"),
        ({"jobs": [{"name": "a", "command": "true"}]}, r"^\[\[jobs\]\] number 1 command must be a list, not a string$"),
        (
            {"jobs": [{"name": "a", "comand": ["true"]}]},
            r"^\[\[jobs\]\] number 1 command is missing\n\[\[jobs\]\] number 1 has no key 'comand'; did",
        ),
        (
            {"sqlite": [{"path": "a.db", "evry": 1}]},
            r"^\[\[sentinels.sqlite\]\] number 1 has no key 'evry'; did you mean 'every'\?$",
        ),
        ({"disk": [{}, {}]}, r"number 2: there is a sentinel 'disk:/' already"),
        ({"disc": [{}]}, r"\[\[sentinels.disc\]\]: no plugin has sentinels of that kind; did you mean \[\[sentinels.disk\]\]\?$"),
        ({"sqlit": [{}]}, r"did you mean \[\[sentinels.sqlite\]\]\?$"),
        ({"weather": [{}]}, r"\[\[sentinels.weather\]\]: no plugin has sentinels of that kind; there are disk, jobs, sqlite$"),
    ],
)
def test_a_table_that_no_sentinel_can_use_is_refused(table: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(RegistrationError, match=said):
        found(tmp_path, Brings(Disk)).sentinels(Settings(sentinels=table))


def test_two_kinds_of_one_name_and_kinds_without_a_name_are_refused(tmp_path: Path) -> None:
    class Other(Disk):
        pass

    class Nameless(Sentinel[DiskOptions]):
        pass

    with pytest.raises(RegistrationError, match="sentinels of kind 'disk' already"):
        found(tmp_path, Brings(Disk), Brings(Other)).sentinels(Settings())
    with pytest.raises(RegistrationError, match=r"needs a kind, and .*Nameless"):
        found(tmp_path, Brings(Nameless)).sentinels(Settings())


def test_a_hook_that_does_not_exist_is_refused_by_name(tmp_path: Path) -> None:
    class Misspelt:
        @hookimpl
        def remediation_runboks(self) -> list[Any]:
            return []

    with pytest.raises(RegistrationError, match="remediation_runboks"):
        found(tmp_path, Misspelt())


@pytest.mark.parametrize("answer", [None, 7, ZeroDivisionError("no")])
def test_a_hook_that_raises_or_answers_nonsense_is_refused_with_its_plugin(answer: Any, tmp_path: Path) -> None:
    module = ModuleType("odd_plugin")

    @hookimpl
    def remediation_sentinels() -> Any:
        if isinstance(answer, Exception):
            raise answer
        return answer

    module.remediation_sentinels = remediation_sentinels
    with pytest.raises(RegistrationError, match="plugin odd_plugin: remediation_sentinels raised"):
        found(tmp_path, module).sentinels(Settings())


def test_a_module_that_can_not_be_imported_is_refused_with_the_reason(tmp_path: Path) -> None:
    with pytest.raises(RegistrationError, match=r"'no_such_module' can't be imported: ModuleNotFoundError"):
        found(tmp_path, host={"autoload": False, "plugins": ["no_such_module"]})
    with pytest.raises(RegistrationError, match="autoload names 'nowhere'"):
        found(tmp_path, host={"autoload": ["nowhere"]})


def test_options_of_a_sentinel_are_any_pydantic_model(tmp_path: Path) -> None:
    class Options(BaseModel):
        folder: str = "/"

    class Plain(Disk, Sentinel[Options]):
        kind: ClassVar[str] = "plain"

    (made,) = found(tmp_path, Brings(Plain)).sentinels(Settings(sentinels={"plain": [{"folder": "/srv"}]}))
    assert made.options == Options(folder="/srv")
    with pytest.raises(RegistrationError, match=r"number 1 has no key 'foldr'; did you mean 'folder'\?$"):
        found(tmp_path, Brings(Plain)).sentinels(Settings(sentinels={"plain": [{"foldr": "/srv"}]}))


def test_a_plugin_that_is_given_by_name_is_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "given_by_name.py").write_text(
        "from remediation.authoring import hookimpl\nfrom remediation.sentinels.sqlite import SqliteSentinel\n\n\n"
        "class Mine(SqliteSentinel):\n    kind = 'mine'\n\n\n@hookimpl\ndef remediation_sentinels():\n    return [Mine]\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    made = found(tmp_path, "given_by_name", "given_by_name")
    (sentinel,) = made.sentinels(Settings(base=tmp_path, sentinels={"mine": [{"path": "a.db"}]}))
    assert type(sentinel).kind == "mine"
    with pytest.raises(RegistrationError, match=r"'no_such_module' can't be imported: ModuleNotFoundError"):
        found(tmp_path, "no_such_module")
