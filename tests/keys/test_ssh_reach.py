"""Private keys that the host's own user can read are found."""

import base64
import os

import pytest
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_ssh_private_key,
)
from tests.support.ssh import KINDS, Token, made_key, public_key

from remediation.keys.ssh import PrivateKeyInReach, private_key_in_reach, public_half, wire


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("passphrase", ["", "correct horse"])
def test_a_private_key_is_found_in_a_folder_encrypted_or_not(tmp_path, kind, passphrase):
    path = made_key(tmp_path, kind, passphrase)
    made_key(tmp_path, name="another")
    assert private_key_in_reach(public_key(path), [tmp_path]) == PrivateKeyInReach(path, encrypted=bool(passphrase))


def test_it_is_found_beside_its_pub_file_and_by_its_own_name(tmp_path):
    path = made_key(tmp_path, name="work.laptop")
    for place in (path, f"{path}.pub"):
        assert private_key_in_reach(public_key(path), [place]) == PrivateKeyInReach(path, encrypted=False)


def test_it_is_found_under_any_name_even_without_its_pub_file(tmp_path, monkeypatch):
    ssh = tmp_path / ".ssh"
    ssh.mkdir()
    path = made_key(ssh, name="odd name")
    key = public_key(path)
    (ssh / "odd name.pub").unlink()
    monkeypatch.setenv("HOME", str(tmp_path))
    assert private_key_in_reach(key) == PrivateKeyInReach(path, encrypted=False)


def test_a_users_own_folder_is_found_whatever_the_environment_says(tmp_path, monkeypatch):
    class Entry:
        pw_dir = str(tmp_path)

    (tmp_path / ".ssh").mkdir()
    path = made_key(tmp_path / ".ssh")
    monkeypatch.setenv("HOME", "/nonexistent")
    monkeypatch.setattr("pwd.getpwuid", lambda _: Entry)
    assert private_key_in_reach(public_key(path)) == PrivateKeyInReach(path, encrypted=False)


def test_a_user_without_a_home_directory_has_no_keys(tmp_path, monkeypatch):
    def nobody(_):
        raise KeyError("no such user")

    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr("pwd.getpwuid", nobody)
    assert private_key_in_reach(public_key(made_key(tmp_path))) is None


@pytest.mark.parametrize("passphrase", [b"", b"correct horse"])
def test_keys_in_pem_are_found_too(tmp_path, passphrase):
    path = made_key(tmp_path)
    private = load_ssh_private_key(path.read_bytes(), None)
    encryption = BestAvailableEncryption(passphrase) if passphrase else NoEncryption()
    path.write_bytes(private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption))
    assert private_key_in_reach(public_key(path), [path]) == PrivateKeyInReach(path, encrypted=bool(passphrase))


def test_a_key_that_is_not_there_is_not_found(tmp_path):
    path = made_key(tmp_path)
    key = public_key(path)
    path.unlink()
    (tmp_path / "noise").write_bytes(os.urandom(1000))
    (tmp_path / "odd").write_text("-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n")
    (tmp_path / "pem").write_text("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    made_key(tmp_path, name="another")
    assert private_key_in_reach(key, [tmp_path, tmp_path / "nowhere"]) is None


@pytest.mark.parametrize("kind", ["ed25519", "ecdsa"])
def test_the_handle_of_a_key_on_a_token_is_no_key(tmp_path, kind):
    key = Token(kind).key
    nothing = wire.string("none")
    inner = b"openssh-key-v1\0" + nothing + nothing + wire.string("") + (1).to_bytes(4, "big") + wire.string(key.blob)
    inner += wire.string("what the token made of it")
    lines = ["-----BEGIN OPENSSH PRIVATE KEY-----", base64.b64encode(inner).decode(), "-----END OPENSSH PRIVATE KEY-----", ""]
    path = tmp_path / "id_sk"
    path.write_text("\n".join(lines))
    assert public_half(path) == key, "else this shows nothing"
    assert private_key_in_reach(key, [tmp_path]) is None


@pytest.mark.parametrize("passphrase", ["", "correct horse"])
def test_the_public_half_of_a_private_key_or_of_a_pub_file_is_read_without_its_passphrase(tmp_path, passphrase):
    path = made_key(tmp_path, passphrase=passphrase)
    key = public_key(path)
    assert public_half(f"{path}.pub") == key
    (tmp_path / f"{path.name}.pub").unlink()
    assert public_half(path) == key


def test_what_is_no_key_has_no_public_half(tmp_path):
    (tmp_path / "noise").write_bytes(os.urandom(1000))
    (tmp_path / "noise.pub").write_bytes(os.urandom(1000))
    assert [public_half(tmp_path / name) for name in ("noise", "noise.pub", "nowhere", ".")] == [None] * 4
