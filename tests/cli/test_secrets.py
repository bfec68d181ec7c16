"""``remediation secrets``: a value goes in, and is never shown."""

import json
import os
import pty
import select
import subprocess
import sys
from pathlib import Path

import pytest

VALUE = "Zq7-unique-hunter2-Zq7"


class Shell:
    """Runs the command in a folder with a home, as a person would."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.env = {**os.environ, "XDG_STATE_HOME": str(folder / "state"), "HOME": str(folder)}
        self.env.pop("REMEDIATION_HOME", None)
        self.keys = folder / "state" / "remediation" / "atlas"

    def __call__(self, *words: str, stdin: bytes = b"", code: int = 0, **env: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "remediation", *words],
            input=stdin,
            capture_output=True,
            cwd=self.folder,
            env={**self.env, **env},
            timeout=60,
            check=False,
        )
        assert done.returncode == code, done.stderr
        told = (done.stdout + done.stderr).decode()
        assert VALUE not in told
        return told


@pytest.fixture
def shell(tmp_path) -> Shell:
    made = Shell(tmp_path)
    made("init", "--id", "atlas")
    return made


def value_of(shell: Shell, name: str) -> str:
    from remediation.bootstrap import open_vault
    from remediation.settings import Home

    return open_vault(Home(shell.folder / ".remediation", shell.keys)).get(name)


def listed(shell: Shell) -> list[dict]:
    return json.loads(shell("secrets", "list", "--json"))


def test_a_value_from_standard_input_is_stored_without_its_line_end(shell):
    assert shell("secrets", "set", "token", stdin=f"{VALUE}\n".encode()) == "token, version 1\n"
    assert value_of(shell, "token") == VALUE


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (b"one", "one"),
        (b"one\r\n", "one"),
        (b"one\n\n", "one\n\n"),
        (b"a\nb\n", "a\nb\n"),
        (b" spaces \n", " spaces "),
        ("ü€\n".encode(), "ü€"),
    ],
)
def test_only_the_line_end_of_one_line_is_dropped(shell, given, kept):
    shell("secrets", "set", "token", stdin=given)
    assert value_of(shell, "token") == kept


def test_a_value_from_a_file_or_a_descriptor_is_stored(shell):
    (shell.folder / "value").write_text(VALUE)
    shell("secrets", "set", "one", "--from-file", "value")
    shell("secrets", "set", "two", "--from-fd", "0", stdin=VALUE.encode())
    assert value_of(shell, "one") == value_of(shell, "two") == VALUE


def test_at_a_terminal_it_is_asked_for_and_not_shown(shell):
    # A child with a terminal of its own: what it is asked, and what the terminal shows.
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "remediation", "secrets", "set", "token"],
        stdin=follower,
        stdout=follower,
        stderr=follower,
        cwd=shell.folder,
        env=shell.env,
        start_new_session=True,
    )
    os.close(follower)
    shown, asked = b"", 0
    try:
        while True:
            assert select.select([leader], [], [], 30)[0], f"it says nothing more after {shown!r}"
            shown += os.read(leader, 1000)
            # What comes before the blank is written before the terminal stops to show what is typed, and drops what was.
            if shown.endswith(b": ") and shown.count(b": ") > asked:
                asked = shown.count(b": ")
                os.write(leader, f"{VALUE}\n".encode())
    except OSError:
        pass  # the terminal was closed
    finally:
        os.close(leader)
    assert process.wait(timeout=60) == 0, shown
    assert asked == 2
    assert VALUE.encode() not in shown
    assert value_of(shell, "token") == VALUE


@pytest.mark.parametrize(
    "words",
    [("token", VALUE), ("token", f"--value={VALUE}"), ("--value", VALUE, "token"), ("token", "--", VALUE), (f"token={VALUE}",)],
)
def test_a_value_as_an_argument_is_refused_and_not_repeated(shell, words):
    said = shell("secrets", "set", *words, stdin=b"x", code=2)
    assert "never passed as an argument" in said or "the name of a secret" in said
    assert listed(shell) == []


@pytest.mark.parametrize(
    ("stdin", "said"),
    [
        (b"", "has 0 bytes"),
        (b"\n", "has 0 bytes"),
        (b"\xff\xfe", "not UTF-8"),
        (b"a\0b", "NUL"),
        (b"x" * 70_000, "must have 1 to 65536"),
    ],
)
def test_a_value_that_can_not_be_kept_is_refused(shell, stdin, said):
    assert said in shell("secrets", "set", "token", stdin=stdin, code=2)
    assert listed(shell) == []


def test_what_can_not_be_read_is_named(shell):
    assert "nowhere" in shell("secrets", "set", "token", "--from-file", "nowhere", code=2)
    assert "descriptor 99" in shell("secrets", "set", "token", "--from-fd", "99", code=2)
    assert "one of them" in shell("secrets", "set", "token", "--from-fd", "0", "--from-file", "x", code=2)


def test_they_are_listed_without_values_and_with_who_declares_them(shell):
    assert "no secrets" in shell("secrets", "list")
    shell("secrets", "set", "token", stdin=VALUE.encode())
    shell("secrets", "set", "token", stdin=VALUE.encode())
    shell("secrets", "set", "other", stdin=b"x")
    (shell.folder / "plugin_of_test.py").write_text(
        "from remediation.authoring import *\n"
        "class Mine(Runbook):\n"
        "    spec = RunbookSpec(id='mine', handles=(Handles(code='A'),), blast_radius='process', reversibility='reversible',\n"
        "        level='patch', credentials=('token',))\n"
        "    async def precondition(self, ctx): return Finding.declined('no')\n"
        "    async def action(self, ctx): return Plan()\n"
        "    async def verify(self, ctx): return Verdict.healthy()\n"
        "@hookimpl\n"
        "def remediation_runbooks(): return [Mine]\n"
    )
    config = shell.folder / ".remediation" / "remediation.toml"
    config.write_text(config.read_text().replace("#plugins = []", 'plugins = ["plugin_of_test"]'))
    shell("run", "--once", PYTHONPATH=os.pathsep.join([str(shell.folder), os.environ.get("PYTHONPATH", "")]))
    found = listed(shell)
    assert [(item["name"], item["version"], item["declared_by"]) for item in found] == [("other", 1, []), ("token", 2, ["mine"])]
    assert all(item["set_at"].endswith("Z") for item in found)
    assert "mine" in shell("secrets", "list")
    assert "does not start until it is set again" in shell("secrets", "rm", "token")
    assert [(item["name"], item["version"]) for item in listed(shell)] == [("other", 1), ("token", None)]
    assert "not in the vault" in shell("secrets", "list")


def test_removing_what_is_not_there_is_a_no(shell):
    assert "nothing was removed" in shell("secrets", "rm", "token", code=1)


def test_the_key_is_exchanged(shell):
    shell("secrets", "set", "token", stdin=VALUE.encode())
    before = (shell.keys / "vault.key").read_bytes()
    assert json.loads(shell("secrets", "rotate", "--json")) == {"secrets": 1, "passphrase": False}
    assert (shell.keys / "vault.key").read_bytes() != before
    assert value_of(shell, "token") == VALUE


def test_the_vaults_key_can_be_kept_under_the_keys_passphrase(shell):
    shell("secrets", "set", "token", stdin=VALUE.encode())
    phrase = {"REMEDIATION_KEY_PASSPHRASE": "correct horse"}
    assert "kept under the passphrase" in shell("secrets", "rotate", "--passphrase", **phrase)
    assert "there is no passphrase" in shell("secrets", "list", code=2)
    assert "token" in shell("secrets", "list", **phrase)
    assert "does not open" in shell("secrets", "list", code=2, REMEDIATION_KEY_PASSPHRASE="wrong")
    shell("secrets", "rotate", "--no-passphrase", **phrase)
    assert "token" in shell("secrets", "list")


def test_without_a_home_or_a_journal_it_says_what_to_do(tmp_path, shell):
    assert "there is no home" in shell("--home", "elsewhere", "secrets", "list", code=2)
    (shell.keys / "head.note").unlink()
    assert "init` first" in shell("secrets", "list", code=2)


def test_a_vault_that_was_altered_is_refused(shell):
    shell("secrets", "set", "token", stdin=VALUE.encode())
    path = shell.keys / "vault.json"
    path.write_text(path.read_text().replace('"version":1', '"version":2'))
    for words in (("list",), ("rm", "token"), ("rotate",), ("set", "token")):
        assert "was altered" in shell("secrets", *words, stdin=b"x", code=2)
