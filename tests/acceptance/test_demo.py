"""The demo, as anybody runs it, and what it leaves behind with --keep."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tests.support.installed import Ended, User

TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> tuple[User, Ended]:
    user = User(
        tmp_path_factory.mktemp("spectator"), variables={"REMEDIATION_HOME": "", "TMPDIR": str(tmp_path_factory.mktemp("scratch"))}
    )
    (user.folder / "demo-home").mkdir()
    return user, user.remediation("demo", "--home", "demo-home", "--keep", timeout=240)


def test_the_demo_succeeds_also_in_a_folder_that_is_there_and_empty(played: tuple[User, Ended]) -> None:
    _, ran = played
    assert ran.status == 0, ran.out + ran.err
    assert "Try: remediation --home" in ran.out


def test_its_journal_is_genuine(played: tuple[User, Ended]) -> None:
    user, _ = played
    verdict = user.succeed("journal", "verify", "--home", "demo-home", "--json").json
    assert verdict["ok"] is True
    assert verdict["size"] > 10
    assert re.fullmatch(r"[A-Za-z0-9+/]{43}=", verdict["root"])
    assert re.fullmatch(r"[a-z0-9.-]+/remediation/[0-9a-f]+", verdict["origin"])
    assert verdict["key"].startswith(f"{verdict['origin']}+")


def test_its_incidents_are_listed(played: tuple[User, Ended]) -> None:
    user, _ = played
    incidents = user.succeed("incidents", "--home", "demo-home", "--json").json
    assert isinstance(incidents, list)
    for incident in incidents:
        assert {"id", "code", "subject", "status", "runbook", "attempts"} <= set(incident)
        assert TIME.fullmatch(incident["opened_at"])
        assert TIME.fullmatch(incident["settled_at"])
        assert user.succeed("incident", "show", incident["id"], "--home", "demo-home", "--json").json["id"] == incident["id"]
    by_code = {incident["code"]: incident for incident in incidents}
    healed = {code: (by_code[code]["status"], by_code[code]["runbook"]) for code in ("JOB_FILE_MISSING", "SQLITE_CORRUPT")}
    assert healed == {"JOB_FILE_MISSING": ("resolved", "volatile-path"), "SQLITE_CORRUPT": ("resolved", "sqlite-corruption")}
    assert [incident["code"] for incident in incidents if incident["status"] == "escalated" and incident["runbook"] is None]


def test_an_existing_folder_is_not_played_in(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").write_text("mine")
    ran = User(tmp_path).remediation("demo", "--home", "mine")
    assert ran.status == 2
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["file"]


def test_interrupted_it_leaves_nothing_behind(tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    argv = [sys.executable, "-m", "remediation", "demo"]
    with subprocess.Popen(argv, env={**os.environ, "TMPDIR": str(scratch)}, stdout=subprocess.PIPE, text=True) as playing:
        assert playing.stdout is not None
        for line in playing.stdout:
            if "remediation run" in line:
                break
        assert list(scratch.iterdir())
        playing.send_signal(signal.SIGINT)
        playing.communicate(timeout=60)
    assert playing.returncode == 130
    assert list(scratch.iterdir()) == []
