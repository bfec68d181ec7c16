"""The signing key's file: made once, durably, for its owner alone."""

import copy
import hmac
import os
import pickle
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key

from remediation.errors import RemediationError
from remediation.keys import KeyFileRefused, SigningKey
from remediation.proof.checkpoint import Checkpoint, open_checkpoint
from remediation.proof.errors import NoteError

ORIGIN = "atlas-1/remediation/5f0c3a9be2d14b77"


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "signing.key"


def test_a_created_key_is_the_one_that_is_loaded(path):
    created = SigningKey.create(path)
    loaded = SigningKey.load(path)
    assert loaded.public == created.public
    assert loaded.sign(b"message") == created.sign(b"message")
    assert loaded.vkey(ORIGIN).verifies(created.sign(b"message"), b"message")


def test_two_created_keys_differ(tmp_path):
    assert SigningKey.create(tmp_path / "one").public != SigningKey.create(tmp_path / "two").public


def test_its_notes_verify_with_its_vkey(path):
    key = SigningKey.create(path)
    note = Checkpoint(ORIGIN, 3, b"r" * 32).sign([key.signer(ORIGIN)])
    assert open_checkpoint(note, [key.vkey(ORIGIN)], origin=ORIGIN).keys == (key.vkey(ORIGIN),)


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o277])
def test_only_the_owner_can_read_the_file_whatever_the_umask(path, umask):
    before = os.umask(umask)
    try:
        SigningKey.create(path)
    finally:
        os.umask(before)
    found = path.stat()
    assert stat.S_IMODE(found.st_mode) == 0o600
    assert found.st_uid == os.geteuid()


def test_the_first_line_says_what_the_file_is(path):
    SigningKey.create(path)
    lines = path.read_text().splitlines()
    assert lines[0] == "remediation-signing-key/1 pkcs8-pem"
    assert lines[1] == "-----BEGIN PRIVATE KEY-----"


def test_openssl_reads_the_file_as_it_is(path):
    key = SigningKey.create(path)
    ran = subprocess.run(["openssl", "pkey", "-in", path, "-pubout", "-outform", "DER"], capture_output=True, check=True)
    assert ran.stdout[-32:] == key.public


def test_a_file_that_is_there_is_never_replaced(path):
    path.write_text("precious")
    with pytest.raises(KeyFileRefused, match="is not replaced"):
        SigningKey.create(path)
    assert path.read_text() == "precious"


def test_a_link_is_not_written_through(path, tmp_path):
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(KeyFileRefused, match="is not replaced"):
        SigningKey.create(path)
    assert not (tmp_path / "elsewhere").exists()


def test_a_missing_directory_is_an_error_that_names_the_file(tmp_path):
    with pytest.raises(KeyFileRefused, match=r"gone/signing\.key can't be made"):
        SigningKey.create(tmp_path / "gone" / "signing.key")


def test_a_key_that_could_not_be_written_leaves_no_file(path):
    """The kernel refuses to let the file grow: nothing half-written stays."""
    script = (
        "import resource, signal, sys\n"
        "from remediation.keys import KeyFileRefused, SigningKey\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20, 20))\n"
        "try:\n    SigningKey.create(sys.argv[1])\n"
        "except KeyFileRefused as error:\n    print(error)\n"
    )
    ran = subprocess.run([sys.executable, "-c", script, path], capture_output=True, text=True, check=True)
    assert "no key was made" in ran.stdout
    assert not path.exists()


def test_there_is_no_key_where_there_is_none(path):
    with pytest.raises(KeyFileRefused, match="there is no key at"):
        SigningKey.load(path)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o620, 0o610, 0o644])
def test_a_file_that_others_can_use_is_refused_with_the_remedy(path, mode):
    SigningKey.create(path)
    path.chmod(mode)
    with pytest.raises(KeyFileRefused, match=f"mode {mode:04o}.*chmod 600") as refused:
        SigningKey.load(path)
    assert "PRIVATE" not in str(refused.value)
    path.chmod(0o400)
    assert SigningKey.load(path)


def test_a_file_of_another_user_is_refused_with_the_remedy(path):
    me, other = os.geteuid(), 0
    foreign = Path("/etc/passwd")
    if me == 0:  # root owns that, but may give files away
        SigningKey.create(path)
        other, foreign = 12345, path
        os.chown(path, other, -1)
    with pytest.raises(KeyFileRefused, match=f"belongs to the user with id {other}.*chown {me}"):
        SigningKey.load(foreign)


def test_a_link_a_directory_and_a_pipe_are_refused(path, tmp_path):
    SigningKey.create(tmp_path / "real")
    path.symlink_to(tmp_path / "real")
    with pytest.raises(KeyFileRefused, match="not a link"):
        SigningKey.load(path)
    with pytest.raises(KeyFileRefused, match="not a regular file"):
        SigningKey.load(tmp_path)
    os.mkfifo(tmp_path / "pipe", 0o600)
    with pytest.raises(KeyFileRefused, match="not a regular file"):
        SigningKey.load(tmp_path / "pipe")


def other_pem() -> bytes:
    return generate_private_key(SECP256R1()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: b"", "not a signing key of this program"),
        (lambda content: content.partition(b"\n")[2], "not a signing key of this program"),
        (lambda content: content.replace(b"pkcs8-pem", b"scrypt-aes-gcm"), "upgrade remediation"),
        (lambda content: content[: len(content) // 2], "damaged"),
        (lambda content: content.partition(b"\n")[0] + b"\n", "damaged"),
        (lambda content: content.partition(b"\n")[0] + b"\n" + other_pem(), "another kind"),
        (lambda content: content + b"x" * 20_000, "too large"),
    ],
)
def test_a_file_of_another_form_is_refused_and_never_quoted(path, change, message):
    SigningKey.create(path)
    content = path.read_bytes()
    secret = content.splitlines()[2].decode()
    path.write_bytes(change(content))
    with pytest.raises(KeyFileRefused, match=message) as refused:
        SigningKey.load(path)
    assert secret not in repr(refused.value)
    assert isinstance(refused.value, RemediationError)


def test_a_key_is_never_shown(path):
    key = SigningKey.create(path)
    secret = serialization.load_pem_private_key(path.read_bytes(), None).private_bytes_raw()
    shown = f"{key!r} {key} {key.signer(ORIGIN)!r} {key.vkey(ORIGIN)!r}"
    assert secret.hex() not in shown
    assert repr(secret) not in shown
    assert key.public.hex() in repr(key)


@pytest.mark.parametrize("copying", [pickle.dumps, copy.copy, copy.deepcopy])
def test_a_key_is_neither_pickled_nor_copied(path, copying):
    key = SigningKey.create(path)
    with pytest.raises(TypeError, match="not copied or pickled"):
        copying(key)
    with pytest.raises(TypeError):
        pickle.dumps(key.signer(ORIGIN))


def test_a_name_that_can_not_be_a_key_name_is_refused(path):
    with pytest.raises(NoteError, match="can't be a key name"):
        SigningKey.create(path).vkey("two words")


def test_a_derived_key_is_hkdf_of_the_private_key_and_differs_for_each_purpose(path):
    key = SigningKey.create(path)
    secret = serialization.load_pem_private_key(path.read_bytes(), None).private_bytes_raw()
    tag, purpose = b"remediation-derived-key/1", b"snapshots"
    info = len(tag).to_bytes(4, "big") + tag + len(purpose).to_bytes(4, "big") + purpose
    extracted = hmac.digest(b"\0" * 32, secret, "sha256")
    assert key.derive("snapshots") == hmac.digest(extracted, info + b"\1", "sha256")
    assert SigningKey.load(path).derive("snapshots") == key.derive("snapshots")
    assert key.derive("other") != key.derive("snapshots")
