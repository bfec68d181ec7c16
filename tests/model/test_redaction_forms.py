"""Secrets in the formats of files, on command lines and behind what only looks like a mask; and verdicts of tests, which stay."""

import json

import pytest
from tests.support.secret_lines import positive

from remediation.model.redaction import Redactor, masked
from remediation.model.redaction.names import is_secret_under, names_secret
from remediation.model.redaction.patterns import BUILTIN
from remediation.model.redaction.rules import CLASSES, MASKS

REDACTOR = Redactor()
PASSWORD = masked("password")
PUTTY = """PuTTY-User-Key-File-3: ssh-ed25519
Encryption: none
Comment: eddsa-key-20240131
Public-Lines: 2
AAAAC3NzaC1lZDI1NTE5AAAAIJ1kS9mWq0m3Vd0ZbqV0yJm6yHk1b5cXw2rQ7uT8
vN3p
Private-Lines: 1
AAAAIGmPzQ4wV7nUe2yRb1cTt9sKx6fLh3dJo8aEi5uWq0Zr
Private-MAC: 3f786850e387550fdab836ed7e6dc881de23001b3f786850e387550fdab836ed
"""
SECRET_LINE = PUTTY.splitlines()[7]


def test_the_private_lines_of_a_putty_key_are_masked_and_its_public_lines_stay() -> None:
    head = PUTTY[: PUTTY.index("Private-Lines")]
    assert REDACTOR.text(f"a\n{PUTTY}b") == f"a\n{head}{masked('private-key')}\nb"
    assert REDACTOR.text(REDACTOR.text(PUTTY)) == REDACTOR.text(PUTTY)


@pytest.mark.parametrize(
    "text",
    [
        PUTTY.replace("\n", "\r\n"),
        PUTTY.replace("\n", "\\n"),
        json.dumps({"k": PUTTY}),
        PUTTY[: PUTTY.index("Private-MAC")],
        PUTTY[PUTTY.index(SECRET_LINE) :],
        PUTTY.replace("File-3", "File-2").replace("3f786850e387550fdab836ed\n", "\n"),
    ],
)
def test_a_putty_key_is_masked_in_part_and_escaped(text: str) -> None:
    result = REDACTOR.text(text)
    assert SECRET_LINE not in result
    assert masked("private-key") in result
    assert REDACTOR.text(result) == result


@pytest.mark.parametrize(
    "text",
    [
        "---- BEGIN SSH2 ENCRYPTED PRIVATE KEY ----\n{}\n---- END SSH2 ENCRYPTED PRIVATE KEY ----",
        "-----BEGIN%20RSA%20PRIVATE%20KEY-----%0A{}%0A-----END%20RSA%20PRIVATE%20KEY-----",
        "-----BEGIN+PRIVATE+KEY-----%0A{}%0A-----END+PRIVATE+KEY-----",
        "-----BEGIN RSA PRIVATE KEY-----\\n{}\\n-----END RSA PRIVATE KEY-----",
        "-----BEGIN PGP PRIVATE KEY BLOCK----- {} -----END PGP PRIVATE KEY BLOCK-----",
        "client-key-data: LS0tLS1CRUdJTiBSU0EgUFJJVkFURSBLRVktLS0tLQ{}",
        "tls.key LS0tLS1CRUdJTiBQUklWQVRFIEtFWS0tLS0tCg{}",
        'jwk {{"kty": "OKP", "crv": "Ed25519", "d": "{}", "x": "public"}}',
        '"{{\\"kty\\":\\"RSA\\",\\"n\\":\\"public\\",\\"dq\\":\\"{}\\"}}"',
    ],
)
def test_private_keys_of_other_formats_are_masked(text: str) -> None:
    held = "AAAAIGmPzQ4wV7nUe2yRb1cTt9sKx6fLh3dJo8aEi5uWq0Zr"
    result = REDACTOR.text(text.format(held))
    assert held not in result
    assert masked("private-key") in result or masked("secret") in result
    assert REDACTOR.text(result) == result


def test_only_masks_of_known_classes_are_masks() -> None:
    assert {rule.name for rule in BUILTIN} - {"assignment", "element", "flag", "user", "command"} <= CLASSES
    for name in CLASSES:
        assert MASKS.fullmatch(masked(name) * 2)
        for text in (f"password={masked(name)}", f'"password": "{masked(name)}"', f"Cookie: {masked(name)}"):
            assert REDACTOR.text(text) is text
        assert REDACTOR.json({"password": masked(name)}) == {"password": masked(name)}
    assert not MASKS.fullmatch("[redacted:hunter2]")


@pytest.mark.parametrize(
    "text",
    [
        "password=[redacted:hunter2",
        "password=[redacted:hunter2]",
        'password="[redacted:hunter2]"',
        "password='[redacted:hunter2'",
        '"body": "{\\"password\\": \\"[redacted:hunter2]\\"}"',
        "password=[redacted:vault][redacted:hunter2]",
        "password: [redacted:vault]hunter2",
        "--password [redacted:hunter2]",
        "curl -u bob:[redacted:hunter2] x",
        "https://bob:[redacted:hunter2]@example.org",
        "https://bob:[redacted:vault]hunter2@example.org",
        "Authorization: Basic [redacted:hunter2]",
        "Authorization: Digest [redacted:hunter2]",
        "Cookie: [redacted:a=hunter2]",
        "mysql -p[redacted:hunter2]",
        "<password>[redacted:hunter2]</password>",
    ],
)
def test_a_secret_that_begins_like_a_mask_is_masked(text: str) -> None:
    result = REDACTOR.text(text)
    assert "hunter2" not in result
    assert REDACTOR.text(result) == result


def test_a_value_in_json_that_only_looks_like_a_mask_is_masked() -> None:
    assert REDACTOR.json({"password": "[redacted:hunter2]"}) == {"password": masked("secret")}


@pytest.mark.parametrize(
    ("argv", "result"),
    [
        (["sshpass", "-p", "correct horse", "ssh", "x"], ["sshpass", "-p", PASSWORD, "ssh", "x"]),
        (["/usr/bin/mysql", "-u", "root", "-pcorrect horse"], ["/usr/bin/mysql", "-u", "root", f"-p{PASSWORD}"]),
        (["sudo", "curl", "-u", "bob:hunter2", "https://x"], ["sudo", "curl", "-u", f"bob:{PASSWORD}", "https://x"]),
        (["docker", "login", "-u", "bob", "-p", "hunter2"], ["docker", "login", "-u", "bob", "-p", PASSWORD]),
        (["redis-cli", "-a", "hunter2", "ping"], ["redis-cli", "-a", PASSWORD, "ping"]),
        (["openssl", "rsa", "-passin", "pass:hunter2"], ["openssl", "rsa", "-passin", f"pass:{PASSWORD}"]),
        (["sh", "-c", "mysql -phunter2; cp -p a b"], ["sh", "-c", f"mysql -p{PASSWORD}; cp -p a b"]),
        (["mkdir", "-p", "dir"], ["mkdir", "-p", "dir"]),
        (["docker", "run", "-p", "80:80"], ["docker", "run", "-p", "80:80"]),
        (["mysql", "-p", "app"], ["mysql", "-p", "app"]),
        (["openssl", "rsa", "-passin", "file:/srv/pw"], ["openssl", "rsa", "-passin", "file:/srv/pw"]),
        (["sshpass", "-p", "$PASSWORD"], ["sshpass", "-p", "$PASSWORD"]),
        (["mysql", 1, "-pX"], ["mysql", 1, "-pX"]),
    ],
)
def test_passwords_among_arguments_are_masked_behind_their_tool_only(argv: list[object], result: list[object]) -> None:
    once = REDACTOR.json({"argv": argv})
    assert once == {"argv": result}
    assert REDACTOR.json(once) == once


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("pass: swordfish\n", f"pass: {PASSWORD}\n"),
        ("db:\n  user: bob\n  pass: swordfish", f"db:\n  user: bob\n  pass: {PASSWORD}"),
        ("login bob, pass: swordfish", f"login bob, pass: {PASSWORD}"),
        ("pass=123456", f"pass={PASSWORD}"),
        ("db_pass=1234", f"db_pass={PASSWORD}"),
        ("PASS: hunter2", f"PASS: {PASSWORD}"),
    ],
)
def test_what_stands_behind_pass_is_masked(text: str, result: str) -> None:
    assert REDACTOR.text(text) == result


@pytest.mark.parametrize(
    "text",
    [
        "PASS: test_a_lock_is_taken",
        "PASS: tests/core/test_2.py",
        "PASS: TestLock2",
        "PASS: lock::is_taken_2",
        "  PASS: works",
        "--- PASS: TestLock (0.01s)",
        "pass: 12",
        "the second pass: nothing was found",
        "RESULT_PASS = 'PASS'",
    ],
)
def test_verdicts_and_counts_of_tests_stay(text: str) -> None:
    assert REDACTOR.text(text) is text


def test_in_json_a_text_under_pass_is_a_secret_and_a_number_is_a_count() -> None:
    value = {
        "pass": "swordfish",
        "fail": 0,
        "summary": {"pass": 12},
        "env": {"PGPASSWORD": "x1", "DB_PASS": "x2", "first_pass": "x3"},
    }
    assert REDACTOR.json(value) == {
        "pass": masked("secret"),
        "fail": 0,
        "summary": {"pass": 12},
        "env": {"PGPASSWORD": masked("secret"), "DB_PASS": masked("secret"), "first_pass": "x3"},
    }
    assert not is_secret_under("pass", 12)
    assert is_secret_under("password", 12)


@pytest.mark.parametrize(
    "name", ["pass", "dbpass", "dbPass", "SMTP_PASS", "PGPASSWORD", "MYSQL_PWD", "authtoken", "clientsecret", "psk"]
)
def test_names_without_a_border_tell_too(name: str) -> None:
    assert names_secret(name)


@pytest.mark.parametrize("name", ["bypass", "low_pass", "firstPass", "compass", "tests_pass", "sessionid", "passes", "pass_count"])
def test_words_with_pass_in_them_tell_nothing(name: str) -> None:
    assert not names_secret(name)


def test_an_address_with_combined_letters_is_masked() -> None:
    assert REDACTOR.text("an ju\u0308rgen@bu\u0308cher.example, heute") == f"an {masked('email')}, heute"


def test_the_screen_lets_through_whatever_a_rule_of_its_own_would_mask() -> None:
    for rule in BUILTIN:
        for sign in rule.signs:
            frame = f"{sign}= " if rule.named else sign
            assert rule in REDACTOR._screen.suspects(f"x {frame} x"), sign
            if rule.named:
                assert rule in REDACTOR._screen.suspects(f"x {sign.upper()}: x"), sign
    assert REDACTOR._screen.suspects("<b>password</b>")


def test_what_a_rule_masks_the_screen_lets_through_to_it() -> None:
    for line in positive(3):
        suspects = REDACTOR._screen.suspects(line.text)
        missed = [rule.name for rule in BUILTIN if rule not in suspects and rule.mask(line.text) != line.text]
        assert missed == [], line.text


def test_lines_of_netrc_may_be_apart() -> None:
    assert REDACTOR.text("machine x\n\tlogin bob\n\tpassword hunter2\n") == f"machine x\n\tlogin bob\n\tpassword {PASSWORD}\n"
