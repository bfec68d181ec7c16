"""The file of allowed signers: exact people, exact purposes."""

import os
from datetime import UTC, datetime

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given, settings
from hypothesis import strategies as st

from remediation.keys.ssh import AllowedSigners, AllowedSignersRefused


def key_line() -> str:
    return ed25519.Ed25519PrivateKey.generate().public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()


KEY, OTHER = key_line(), key_line()
GOOD = f'ana@example.com namespaces="remediation-approval" {KEY} laptop\n'


def refusal(text: str) -> str:
    with pytest.raises(AllowedSignersRefused) as refused:
        AllowedSigners.parse(text, "signers")
    return str(refused.value)


def test_a_line_is_a_person_a_key_and_what_it_may_sign():
    (signer,) = AllowedSigners.parse(GOOD).signers
    assert signer.principal == "ana@example.com"
    assert signer.namespaces == ("remediation-approval",)
    assert signer.key.line == KEY
    assert (signer.valid_after, signer.valid_before) == (None, None)


def test_comments_blank_lines_tabs_and_crlf_are_as_in_openssh():
    text = f'# people\r\n\r\n   \t\n\tana\tnamespaces="a,b",valid-after="20260101Z"\t{KEY}\tcomment here\r\n'
    (signer,) = AllowedSigners.parse(text).signers
    assert signer.namespaces == ("a", "b")
    assert signer.valid_after == datetime(2026, 1, 1, tzinfo=UTC)


def test_the_normal_form_reads_as_the_same_and_is_sorted():
    text = f'zoe NAMESPACES="b,a",valid-before="202701011200Z" {OTHER}\n{GOOD}{GOOD}'
    signers = AllowedSigners.parse(text)
    normal = str(signers)
    assert normal == (
        f'ana@example.com namespaces="remediation-approval" {KEY}\nzoe namespaces="b,a",valid-before="20270101120000Z" {OTHER}\n'
    )
    assert set(AllowedSigners.parse(normal).signers) == set(signers.signers)
    assert str(AllowedSigners.parse(normal)) == normal


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (f'*@example.com namespaces="a" {KEY}', "is a pattern"),
        (f'an? namespaces="a" {KEY}', "is a pattern"),
        (f'!ana namespaces="a" {KEY}', "is a pattern"),
        (f'ana,bob namespaces="a" {KEY}', "several principals"),
        (f'"ana" namespaces="a" {KEY}', "without quotes"),
        (f'änne namespaces="a" {KEY}', "ASCII"),
        (f'{"a" * 256} namespaces="a" {KEY}', "1-255"),
        (f"ana {KEY}", "namespaces"),
        (f'ana valid-after="20260101Z" {KEY}', 'namespaces="…" is missing'),
        (f'ana namespaces="" {KEY}', "missing"),
        (f'ana namespaces="a,,b" {KEY}', "empty or a pattern"),
        (f'ana namespaces="*" {KEY}', "pattern"),
        (f'ana namespaces="a b" {KEY}', "pattern"),
        (f"ana namespaces {KEY}", "with a value"),
        (f'ana namespaces="a",namespaces="b" {KEY}', "must stand once"),
        (f'ana cert-authority,namespaces="a" {KEY}', "certificate authorities"),
        (f'ana namespaces="a",touch-required {KEY}', "'touch-required' is not known"),
        (f'ana namespaces="a", {KEY}', "end with a comma"),
        (f"ana namespaces=a {KEY}", "can't be read"),
        (f'ana namespaces="a {KEY}', "it must be"),
        (f'ana namespaces="a",valid-after="20260101" {KEY}', "without Z"),
        (f'ana namespaces="a",valid-after="20261301Z" {KEY}', "no time of the calendar"),
        (f'ana namespaces="a",valid-after="2026010Z" {KEY}', "must be YYYYMMDDZ"),
        (f'ana namespaces="a",valid-after="٢٠٢٦٠١٠١Z" {KEY}', "must be YYYYMMDDZ"),
        (f'ana namespaces="a",valid-after="20260201Z",valid-before="20260101Z" {KEY}', "must be later"),
        ('ana namespaces="a"', "it must be"),
        ('ana namespaces="a" ssh-ed25519', "type and base64"),
        ('ana namespaces="a" ssh-ed25519 AAAA', "malformed"),
        ('ana namespaces="a" ssh-dss AAAAB3NzaC1kc3MAAAAB', "'ssh-dss' are not accepted"),
        ("ana", "it must be"),
    ],
    ids=lambda value: value[:22],
)
def test_a_line_that_is_not_exact_is_refused_with_its_number(line, said):
    message = refusal(f"# people\n{GOOD.replace(KEY, OTHER)}{line}\n")
    assert message.startswith("signers, line 3: ")
    assert said in message


def test_one_key_is_one_person():
    assert "can't be that of 'bob' too" in refusal(f'{GOOD}bob namespaces="remediation-approval" {KEY}\n')


def test_one_person_may_have_several_keys():
    signers = AllowedSigners.parse(f"{GOOD}{GOOD.replace(KEY, OTHER)}")
    assert {signer.principal for signer in signers.signers} == {"ana@example.com"}
    assert len(signers.of_key(signers.signers[0].key)) == 1


def test_a_file_is_read_and_one_that_others_may_write_is_refused(tmp_path):
    path = tmp_path / "allowed_signers"
    path.write_text(GOOD)
    path.chmod(0o644)
    assert len(AllowedSigners.load(path).signers) == 1
    for mode in (0o664, 0o646):
        path.chmod(mode)
        with pytest.raises(AllowedSignersRefused, match="chmod go-w"):
            AllowedSigners.load(path)


def test_a_file_that_can_not_be_read_says_which(tmp_path):
    for make in (
        lambda path: None,
        lambda path: path.mkdir(),
        lambda path: path.write_bytes(b"\xff"),
        lambda path: path.write_bytes(b"#" * 2**21),
    ):
        path = tmp_path / "allowed_signers"
        make(path)
        if path.exists():
            path.chmod(0o600)
        with pytest.raises(AllowedSignersRefused, match="allowed_signers"):
            AllowedSigners.load(path)
        if path.is_file():
            path.unlink()
        elif path.is_dir():
            path.rmdir()


def test_a_pipe_does_not_hang_it(tmp_path):
    path = tmp_path / "pipe"
    os.mkfifo(path, 0o600)
    with pytest.raises(AllowedSignersRefused, match="not a regular file"):
        AllowedSigners.load(path)


@given(st.text(max_size=200))
@settings(max_examples=300, deadline=None)
def test_any_text_is_read_or_refused(text):
    for content in (text, f"ana {text} {KEY}", f'{text} namespaces="a" {KEY}', f'ana namespaces="{text}" {KEY}'):
        try:
            signers = AllowedSigners.parse(content)
        except AllowedSignersRefused:
            continue
        assert AllowedSigners.parse(str(signers)).signers == tuple(sorted(set(signers.signers), key=str))
