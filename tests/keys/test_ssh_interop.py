"""SSH signatures, both ways with the stock ssh-keygen."""

import os
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import load_ssh_private_key
from tests.support.ssh import KINDS, NAMESPACE, Token, made_key, public_key, ssh_keygen, stock_signature, stock_verifies

from remediation.keys.ssh import (
    AllowedSigner,
    AllowedSigners,
    SignatureRefused,
    SigningFailed,
    SshSignature,
    sign,
    sign_with_ssh_keygen,
    verify,
)

NOW = datetime(2026, 3, 1, tzinfo=UTC)
DOCUMENT = b'{"decision":"approve"}'
ANA = "ana@example.com"


def signers_of(key) -> AllowedSigners:
    return AllowedSigners((AllowedSigner(ANA, key, (NAMESPACE,)),))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("hashed", ["sha256", "sha512"])
def test_what_ssh_keygen_signs_verifies_here(tmp_path, kind, hashed):
    path = made_key(tmp_path, kind)
    signature = stock_signature(path, DOCUMENT, NAMESPACE, "-O", f"hashalg={hashed}")
    assert SshSignature.parse(signature).hash_algorithm == hashed
    assert verify(DOCUMENT, signature, signers_of(public_key(path)), NAMESPACE, NOW) == ANA
    with pytest.raises(SignatureRefused, match="not over this document"):
        verify(DOCUMENT + b" ", signature, signers_of(public_key(path)), NAMESPACE, NOW)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_signed_here_verifies_with_ssh_keygen(tmp_path, kind):
    path = made_key(tmp_path, kind)
    signature = sign(DOCUMENT, load_ssh_private_key(path.read_bytes(), None), NAMESPACE)
    allowed = str(signers_of(public_key(path)))
    assert stock_verifies(tmp_path, allowed, ANA, DOCUMENT, signature)
    assert not stock_verifies(tmp_path, allowed, ANA, DOCUMENT + b" ", signature)
    assert not stock_verifies(tmp_path, allowed, "eve@example.com", DOCUMENT, signature)
    assert not stock_verifies(tmp_path, allowed, ANA, DOCUMENT, signature, "file")


@pytest.mark.parametrize("kind", ["ed25519", "ecdsa"])
def test_a_tokens_signature_verifies_here_and_with_ssh_keygen(tmp_path, kind):
    token = Token(kind)
    signature = token.sign(DOCUMENT)
    assert verify(DOCUMENT, signature, signers_of(token.key), NAMESPACE, NOW) == ANA
    assert stock_verifies(tmp_path, str(signers_of(token.key)), ANA, DOCUMENT, signature)


def test_a_signature_is_written_as_ssh_keygen_writes_it(tmp_path):
    signature = stock_signature(made_key(tmp_path), DOCUMENT)
    assert SshSignature.parse(signature).armoured == signature


def test_the_fingerprint_is_the_one_that_ssh_keygen_shows(tmp_path):
    path = made_key(tmp_path)
    assert public_key(path).fingerprint == ssh_keygen("-l", "-f", path).stdout.decode().split()[1]


def test_ssh_keygen_agrees_with_the_times_of_a_line(tmp_path):
    path = made_key(tmp_path)
    signature = stock_signature(path, DOCUMENT)
    text = f'{ANA} namespaces="{NAMESPACE}",valid-after="20260101Z",valid-before="20260201120000Z" {public_key(path).line}\n'
    signers = AllowedSigners.parse(text)
    for moment in ("20251231235959Z", "20260101000000Z", "20260201120000Z", "20260201120001Z"):
        at = datetime.strptime(moment, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC)
        try:
            ours = verify(DOCUMENT, signature, signers, NAMESPACE, at) == ANA
        except SignatureRefused:
            ours = False
        for allowed in (text, str(signers)):
            theirs = stock_verifies(tmp_path, allowed, ANA, DOCUMENT, signature, NAMESPACE, "-O", f"verify-time={moment}")
            assert theirs == ours, moment


@pytest.mark.parametrize("kind", ["ed25519", "rsa"])
def test_a_persons_key_signs_through_ssh_keygen(tmp_path, kind):
    path = made_key(tmp_path, kind)
    signature = sign_with_ssh_keygen(DOCUMENT, path, NAMESPACE)
    assert verify(DOCUMENT, signature, signers_of(public_key(path)), NAMESPACE, NOW) == ANA


def test_an_encrypted_key_signs_when_ssh_keygen_is_given_the_passphrase(tmp_path, monkeypatch):
    path = made_key(tmp_path, passphrase="correct horse")
    ask = tmp_path / "ask"
    ask.write_text("#!/bin/sh\necho 'correct horse'\n")
    ask.chmod(0o700)
    monkeypatch.setenv("SSH_ASKPASS", str(ask))
    monkeypatch.setenv("SSH_ASKPASS_REQUIRE", "force")
    signature = sign_with_ssh_keygen(DOCUMENT, path, NAMESPACE)
    assert verify(DOCUMENT, signature, signers_of(public_key(path)), NAMESPACE, NOW) == ANA


def test_a_key_that_the_agent_holds_signs_without_its_file(tmp_path, monkeypatch):
    import subprocess

    path = made_key(tmp_path)
    socket = tmp_path / "agent"
    agent = subprocess.Popen(["ssh-agent", "-D", "-a", str(socket)], stdout=subprocess.PIPE)
    try:
        assert agent.stdout is not None
        agent.stdout.readline()
        monkeypatch.setenv("SSH_AUTH_SOCK", str(socket))
        subprocess.run(["ssh-add", "-q", str(path)], check=True, capture_output=True)
        path.unlink()
        signature = sign_with_ssh_keygen(DOCUMENT, f"{path}.pub", NAMESPACE)
        assert verify(DOCUMENT, signature, signers_of(public_key(path)), NAMESPACE, NOW) == ANA
    finally:
        agent.terminate()
        agent.communicate()


def test_without_the_key_it_says_that_ssh_keygen_said_why(tmp_path, capfd):
    with pytest.raises(SigningFailed, match="it said why above"):
        sign_with_ssh_keygen(DOCUMENT, tmp_path / "none", NAMESPACE)
    assert "none" in capfd.readouterr().err


def test_without_ssh_keygen_it_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SigningFailed, match="install OpenSSH's client"):
        sign_with_ssh_keygen(DOCUMENT, tmp_path / "key", NAMESPACE)


def test_what_ssh_keygen_made_is_checked(tmp_path, monkeypatch):
    fake = Path(tmp_path / "ssh-keygen")
    fake.write_text("#!/bin/sh\ncat >/dev/null\necho a signature, believe me\n")
    fake.chmod(0o700)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    with pytest.raises(SigningFailed, match="can't be used"):
        sign_with_ssh_keygen(DOCUMENT, tmp_path / "key", NAMESPACE)
