"""docs/reference/configuration.md lists every key with its default."""

import re

from pydantic import BaseModel
from tests.support.repository import ROOT

from remediation.settings import Settings
from remediation.settings.tables import Disposables, RunbookTable

PAGE = (ROOT / "docs" / "reference" / "configuration.md").read_text()


def documented(heading: str) -> dict[str, str]:
    """The keys below a heading, with what the page calls their default."""
    part = PAGE.split(f"# {heading}\n", 1)[1].split("\n## ", 1)[0].split("\n### ", 1)[0]
    return dict(re.findall(r"^\| `(\w+)` \| ([^|]*) \|", part.split("\n| profile |", 1)[0], re.MULTILINE))


def tables() -> dict[str, type[BaseModel]]:
    found = {"[effects.disposable]": Disposables, '[runbooks."ID"]': RunbookTable}
    for name, field in Settings.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            found[f"[{name}]"] = field.annotation
    return found


def test_every_key_is_documented_and_no_other() -> None:
    for heading, model in tables().items():
        keys = set(model.model_fields) - {"disposable", "groups"}
        assert set(documented(heading)) == keys, heading


def test_the_defaults_are_those_of_the_code() -> None:
    for heading, model in tables().items():
        made = model()
        for key, said in documented(heading).items():
            value = getattr(made, key)
            if isinstance(value, bool):
                assert said == f"`{str(value).lower()}`", key
            elif isinstance(value, int):
                assert said == f"`{value}`", key
            elif isinstance(value, str) and value:
                assert said == f'`"{value}"`', key
            elif value in ((), {}):
                assert said in {"`[]`", "`{}`"}, key
