"""Where a passphrase comes from, and where it must not go."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from remediation.coordination.processes import clean_environment
from remediation.keys import PassphraseRefused, SigningKey
from remediation.keys.passphrase import ask_with, check_source, cleaned, forget, passphrase

SCRIPT = """
import os, sys
from remediation.keys.passphrase import passphrase
sources = sys.argv[1].split()
first, second = (passphrase(sources, "the key").decode() for _ in range(2))
inherited = os.popen("env").read()
print(first, second, "SECRET_HERE" in inherited)
"""


def told(sources: str, **more: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", SCRIPT, sources], capture_output=True, text=True, check=False, **more)


def test_a_variable_is_read_once_remembered_and_not_inherited() -> None:
    ran = told("env:SECRET_HERE", env={**os.environ, "SECRET_HERE": "s3cret"})
    assert ran.stdout.split() == ["s3cret", "s3cret", "False"], ran.stderr


def test_children_of_a_host_never_inherit_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REMEDIATION_KEY_PASSPHRASE", "s3cret")
    assert "s3cret" not in clean_environment().values()


def test_an_inherited_descriptor_is_read_once_and_closed() -> None:
    read, write = os.pipe()
    os.write(write, b"from a pipe\n")
    os.close(write)
    script = SCRIPT + f"\ntry:\n    os.fstat({read})\nexcept OSError:\n    print('closed')\n"
    ran = subprocess.run([sys.executable, "-c", script, f"fd:{read}"], capture_output=True, text=True, pass_fds=[read], check=False)
    os.close(read)
    assert ran.stdout.split() == ["from", "a", "pipe", "from", "a", "pipe", "False", "closed"], ran.stderr


def test_a_descriptor_that_this_process_opened_itself_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "own").write_text("not a passphrase")
    with open(tmp_path / "own") as own:
        with pytest.raises(PassphraseRefused):
            passphrase([f"fd:{own.fileno()}"], "the key")
        assert own.read() == "not a passphrase"


def test_a_credential_of_systemd_is_read(tmp_path: Path) -> None:
    (tmp_path / "key-pass").write_text("cred\n")
    ran = told("env:MISSING credential:key-pass", env={**os.environ, "CREDENTIALS_DIRECTORY": str(tmp_path)})
    assert ran.stdout.split() == ["cred", "cred", "False"], ran.stderr


def test_without_one_it_is_told_where_it_was_looked_for() -> None:
    with pytest.raises(PassphraseRefused, match="env:NOBODY_SETS_THIS, credential:no-such"):
        passphrase(["env:NOBODY_SETS_THIS", "credential:no-such"], "the key")


def test_a_person_is_asked_last_and_once() -> None:
    asked: list[str] = []

    def ask(purpose: str) -> str:
        asked.append(purpose)
        return "typed"

    ask_with(ask)
    try:
        assert [passphrase([], "one thing") for _ in range(3)] == [b"typed"] * 3
        forget("one thing")
        passphrase([], "one thing")
    finally:
        ask_with(None)
        forget("one thing")
    assert asked == ["one thing", "one thing"]


@pytest.mark.parametrize("raw", [b"", b"\n", b"\xff", b"x" * 1025])
def test_what_can_not_be_a_passphrase_is_refused(raw: bytes) -> None:
    with pytest.raises(PassphraseRefused):
        cleaned(raw, "a test")


def test_one_text_is_one_passphrase_however_it_is_composed() -> None:
    assert cleaned("caf\u00e9\n".encode(), "a test") == cleaned("cafe\u0301".encode(), "a test")


@pytest.mark.parametrize("source", ["secret", "env:", "env:1A", "fd:1", "fd:2", "fd:-1", "credential:../x", "credential:", "arg:x"])
def test_other_sources_are_refused(source: str) -> None:
    with pytest.raises(ValueError, match="none of"):
        check_source(source)


def test_an_encrypted_key_is_opened_by_its_passphrase_and_never_quoted(tmp_path: Path) -> None:
    path = tmp_path / "signing.key"
    key = SigningKey.create(path, lambda: b"open sesame")
    assert SigningKey.load(path, lambda: b"open sesame").public == key.public
    assert b"PRIVATE" not in path.read_bytes()
    with pytest.raises(PassphraseRefused, match="does not open") as refused:
        SigningKey.load(path, lambda: b"close sesame")
    assert "sesame" not in str(refused.value)
    with pytest.raises(PassphraseRefused, match="no passphrase was given"):
        SigningKey.load(path)
