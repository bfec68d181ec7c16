"""``keys`` and ``init --encrypt-key``, as processes of their own."""

import json
import os
import pty
import select
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from tests.support.written_journal import Ran, remediation

SECRET = "correct horse battery staple"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "home"
    folder.mkdir()
    (folder / "remediation.toml").write_text(f'[host]\nid = "atlas"\n[keys]\ndir = "{tmp_path / "keys"}"\n')
    return folder


def run(root: Path, *arguments: str, secret: str | None = None, **more: Any) -> Ran:
    environment = [("REMEDIATION_KEY_PASSPHRASE", secret)] if secret is not None else []
    return remediation("--home", str(root), *arguments, env=environment, **more)


def ok(ran: Ran) -> Any:
    assert ran.status == 0, ran.err
    return json.loads(ran.out) if ran.out.startswith(("{", "[")) else ran.out


def test_a_key_is_listed_rotated_exported_and_the_journal_verifies(root: Path, tmp_path: Path) -> None:
    first = ok(run(root, "init", "--json"))["vkey"]
    assert ok(run(root, "keys", "export")) == f"{first}\n"
    rotated = ok(run(root, "keys", "rotate", "--reason", "yearly", "--json"))
    assert (rotated["seq"], rotated["old"]) == (0, first)
    assert run(root, "run", "--once").status == 0
    ok(run(root, "keys", "rotate", "--json"))
    listed = ok(run(root, "keys", "list", "--json"))
    assert [key["state"] for key in listed] == ["retired", "retired", "current"]
    assert (listed[0]["vkey"], listed[1]["vkey"]) == (first, rotated["new"])
    assert (listed[0]["from"], listed[0]["to"]) == (0, 1)
    assert listed[1]["from"] == 1
    assert listed[1]["to"] == listed[2]["from"]
    assert listed[2]["to"] is None
    assert ok(run(root, "keys", "export", "--all")).split() == [key["vkey"] for key in listed]
    table = ok(run(root, "keys", "list"))
    assert all(key["fingerprint"] in table for key in listed)
    assert ok(run(root, "journal", "verify", "--vkey", first, "--json"))["ok"]
    out = tmp_path / "log.jsonl"
    ok(run(root, "journal", "export", "--out", str(out)))
    for key in listed:
        assert ok(remediation("journal", "verify", str(out), "--vkey", key["vkey"], "--json"))["ok"]


def test_the_public_key_is_read_by_openssl(root: Path) -> None:
    ok(run(root, "init"))
    pem = ok(run(root, "keys", "export", "--pem"))
    ran = subprocess.run(["openssl", "pkey", "-pubin", "-outform", "DER"], input=pem.encode(), capture_output=True, check=True)
    own = subprocess.run(
        ["openssl", "pkey", "-in", root.parent / "keys" / "signing.key", "-pubout", "-outform", "DER"],
        capture_output=True,
        check=True,
    )
    assert ran.stdout == own.stdout


def test_a_key_under_a_passphrase_is_made_used_and_rotated(root: Path) -> None:
    ok(run(root, "init", "--encrypt-key", secret=SECRET))
    key = root.parent / "keys" / "signing.key"
    header = key.read_bytes().partition(b"\n")[0]
    assert header.startswith(b"remediation-signing-key/1 scrypt-aes-256-gcm n=17,r=8,p=1 ")
    assert run(root, "run", "--once", secret=SECRET).status == 0
    missing = run(root, "run", "--once")
    assert missing.status == 2
    assert "REMEDIATION_KEY_PASSPHRASE" in missing.err
    wrong = run(root, "keys", "rotate", secret="wrong")
    assert wrong.status == 2
    assert "the passphrase does not open" in wrong.err
    assert "Traceback" not in wrong.err + missing.err
    ok(run(root, "keys", "rotate", "--json", secret=SECRET))
    assert key.read_bytes().partition(b"\n")[0] != header
    assert run(root, "run", "--once", secret=SECRET).status == 0
    # What needs no private key needs no passphrase.
    assert len(ok(run(root, "keys", "list", "--json"))) == 2
    assert ok(run(root, "journal", "verify", "--json"))["ok"]
    checks = ok(run(root, "doctor", "--json"))
    assert "under a passphrase" in json.dumps(checks)


def test_the_passphrase_is_set_changed_and_removed(root: Path, tmp_path: Path) -> None:
    ok(run(root, "init"))
    key = tmp_path / "keys" / "signing.key"
    (tmp_path / "credentials").mkdir()
    (tmp_path / "credentials" / "new").write_text("another one\n")
    assert (
        remediation(
            "--home",
            str(root),
            "keys",
            "passphrase",
            "--from",
            "credential:new",
            env=[("CREDENTIALS_DIRECTORY", str(tmp_path / "credentials"))],
        ).status
        == 0
    )
    assert b"scrypt" in key.read_bytes().partition(b"\n")[0]
    assert run(root, "run", "--once", secret="another one").status == 0
    assert run(root, "keys", "passphrase", "--remove", secret="wrong").status == 2
    assert run(root, "keys", "passphrase", "--remove", secret="another one").status == 0
    assert key.read_bytes().startswith(b"remediation-signing-key/1 pkcs8-pem\n")
    assert run(root, "run", "--once").status == 0
    assert sorted(path.name for path in key.parent.iterdir()) == [
        "head.note",
        "head.note.acknowledged",
        "home",
        "rotation.lock",
        "signing.key",
        "signing.vkey",
    ]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["passphrase"], "--from"),
        (["passphrase", "--from", "secret"], "env:NAME"),
        (["passphrase", "--from", "fd:9"], "no passphrase"),
        (["passphrase", "--from", "fd:3", "--remove"], "--remove"),
    ],
)
def test_what_can_not_be_done_is_told_in_a_sentence(root: Path, arguments: list[str], said: str) -> None:
    ok(run(root, "init"))
    ran = run(root, "keys", *arguments)
    assert ran.status == 2
    assert said in ran.err
    assert "Traceback" not in ran.err


def test_at_a_terminal_the_passphrase_is_asked_for_and_not_shown(root: Path) -> None:
    def typed(*arguments: str, answers: list[str]) -> tuple[int, str]:
        child, terminal = pty.fork()
        if child == 0:
            os.execv(sys.executable, [sys.executable, "-m", "remediation", "--home", str(root), *arguments])
        said, asked = "", 0
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            if select.select([terminal], [], [], 0.1)[0]:
                try:
                    said += os.read(terminal, 4096).decode()
                except OSError:
                    break
            if said.count(": ") > asked < len(answers) and said.endswith(": "):
                os.write(terminal, f"{answers[asked]}\n".encode())
                asked += 1
        _, status = os.waitpid(child, 0)
        return os.waitstatus_to_exitcode(status), said

    status, said = typed("init", "--encrypt-key", answers=[SECRET, SECRET])
    assert status == 0, said
    assert SECRET not in said
    status, said = typed("keys", "rotate", answers=[SECRET])
    assert status == 0, said
    status, said = typed("keys", "rotate", answers=["wrong"])
    assert status == 2, said
    assert "does not open" in said
