"""[[anchors.…]]: paths are absolute, paces are bounded, refs are refs."""

from datetime import timedelta
from pathlib import Path

import pytest

from remediation.errors import ConfigurationError
from remediation.settings import Settings

FILE = Path("/srv/app/remediation.toml")


def parsed(text: str) -> Settings:
    return Settings.parse(f'[host]\nid = "atlas"\n{text}', FILE)


def test_each_kind_has_its_tables_with_absolute_paths() -> None:
    anchors = parsed(
        '[[anchors.file]]\npath = "kept/head.note"\n[[anchors.file]]\npath = "/mnt/audit/heads"\nhistory = true\nevery = "5m"\n'
        '[[anchors.command]]\ncommand = ["keep", "it"]\ntimeout = 5\n[[anchors.git]]\nrepository = "heads.git"\nremote = "origin"\n'
    ).anchors
    assert [table.path for table in anchors.file] == [Path("/srv/app/kept/head.note"), Path("/mnt/audit/heads")]
    assert [table.every for table in anchors.file] == [timedelta(minutes=1), timedelta(minutes=5)]
    assert anchors.command[0].command == ("keep", "it")
    assert anchors.git[0].repository == Path("/srv/app/heads.git")
    assert anchors.git[0].ref == "refs/remediation/heads"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[anchors.file]\npath = "x"\n', "[[…]]"),
        ("[[anchors.file]]\n", "path"),
        ('[[anchors.file]]\npath = "x"\nevery = "10ms"\n', "at least 1 s"),
        ('[[anchors.file]]\npath = "x"\ntimeout = "1h"\n', "1 s to 10 min"),
        ('[[anchors.file]]\npath = "x"\nhistry = true\n', "did you mean 'history'"),
        ("[[anchors.command]]\ncommand = []\n", "must not be empty"),
        ('[[anchors.git]]\nrepository = "r"\nref = "main"\n', "full name of a git ref"),
        ('[[anchors.git]]\nrepository = "r"\nref = "refs/a..b"\n', "full name of a git ref"),
        ('[[anchors.git]]\nrepository = "r"\nref = "refs/a.lock"\n', "full name of a git ref"),
        ('[[anchors.git]]\nrepository = "r"\nremote = "--upload-pack=x"\n', "a remote"),
        ("[[anchors.tape]]\n", "tape"),
    ],
)
def test_what_can_not_be_meant_is_a_sentence(text: str, said: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        parsed(text)
    assert said in str(refused.value)
