"""The first remediation.toml: it says all there is, and nothing that is not so."""

import re
import tomllib
from pathlib import Path

import pytest
from pydantic import BaseModel

from remediation.settings import Settings, new_host_id, template

FILE = Path("/srv/app/.remediation/remediation.toml")


def without_comments() -> str:
    """The template with every commented key and table switched on."""
    return re.sub(r"^#(?=\[|[a-z_]+ = )", "", template("atlas"), flags=re.MULTILINE)


@pytest.fixture(autouse=True)
def _no_home_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REMEDIATION_HOME", raising=False)


def test_the_template_is_the_defaults() -> None:
    assert Settings.parse(template("atlas"), FILE).digest() == Settings(base=FILE.parent, host={"id": "atlas"}).digest()


def test_every_key_of_every_table_is_in_the_template() -> None:
    text = template("atlas")
    for table, field in Settings.model_fields.items():
        if table == "base":
            continue
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            for key in kind.model_fields:
                assert re.search(rf"^#?{key} = |^#?\[+{table}\.{key}\]", text, re.MULTILINE), f"[{table}] {key}"
        else:
            assert re.search(rf"^#\[+{table}[.\]]", text, re.MULTILINE), table


def test_the_commented_keys_show_their_defaults() -> None:
    shown = tomllib.loads(without_comments())
    examples = {
        ("limits", "groups"),
        ("effects", "roots"),
        ("keys", "dir"),
        ("host", "home"),
        ("host", "id"),
        ("host", "ready_file"),
    }
    defaults = Settings(base=FILE.parent, host={"id": "atlas"})
    again = Settings.parse(without_comments(), FILE)
    for table in ("host", "gate", "limits", "effects", "ladder", "channels", "keys"):
        for key in shown[table]:
            if (table, key) not in examples:
                assert getattr(getattr(again, table), key) == getattr(getattr(defaults, table), key), (table, key)


def test_new_host_ids_are_valid_and_differ() -> None:
    ids = {new_host_id() for _ in range(20)}
    assert len(ids) == 20
    for id_ in ids:
        assert Settings(host={"id": id_}).host.id == id_
