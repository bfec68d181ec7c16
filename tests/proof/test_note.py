"""Signed notes: the published example, our own, and hostile ones."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.sample_log import new_signer

from remediation.proof.errors import NoteError, SignatureRefused
from remediation.proof.note import Note, NoteSigner, VerifierKey, sign_note

# The example of the Go module golang.org/x/mod/sumdb/note, which the specification comes from.
PUBLISHED_KEY = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
PUBLISHED = (
    "If you think cryptography is the answer to your problem,\n"
    "then you don't know what your problem is.\n"
    "\n"
    "— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
)
TEXT = "example.com/log\n3\nline three\n"


@pytest.fixture
def signer() -> NoteSigner:
    return new_signer("example.com/log")


@pytest.fixture
def note(signer) -> str:
    return sign_note(TEXT, [signer])


def test_the_published_example_verifies():
    key = VerifierKey.parse(PUBLISHED_KEY)
    assert Note.parse(PUBLISHED).opened_by([key]) == (key,)
    assert str(key) == PUBLISHED_KEY
    assert str(Note.parse(PUBLISHED.encode())) == PUBLISHED


def test_the_key_of_the_go_checksum_database_can_be_read():
    vkey = "sum.golang.org+033de0ae+Ac4zctda0e5eza+HJyk9SxEdh+s3Ux18htTTAD8OuAn8"
    assert str(VerifierKey.parse(vkey)) == vkey


@pytest.mark.parametrize(
    ("vkey", "message"),
    [
        ("", "is not a vkey"),
        ("name", "is not a vkey"),
        ("name+c74f20a3", "is not a vkey"),
        ("PeterNeumann+c74f20a4+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW", "altered or mistyped"),
        ("PeterNeumann+C74F20A3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW", "altered or mistyped"),
        ("PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TX", "altered or mistyped"),
        ("OtherName+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW", "altered or mistyped"),
        ("PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10T", "not base64"),
        ("PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW\n", "not base64"),
        ("PeterNeumann+c74f20a3+AR!c2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW", "not base64"),
        ("PeterNeumann+c74f20a3+AQ==", "not an Ed25519 key"),
        ("PeterNeumann+c74f20a3+" + base64.b64encode(b"\x04" + b"x" * 32).decode(), "not an Ed25519 key"),
        ("Peter Neumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW", "can't be a key name"),
        ("+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW", "can't be a key name"),
    ],
)
def test_a_vkey_that_is_none_is_refused(vkey, message):
    with pytest.raises(NoteError, match=message):
        VerifierKey.parse(vkey)


def test_a_public_key_has_32_bytes():
    with pytest.raises(NoteError, match="32 bytes, not 31"):
        VerifierKey("name", b"x" * 31)


def test_what_is_signed_can_be_opened(signer, note):
    parsed = Note.parse(note)
    assert parsed.text == TEXT
    assert parsed.opened_by([signer.key]) == (signer.key,)
    assert str(parsed) == note
    assert "private" not in repr(signer)


@given(st.lists(st.text(st.characters(exclude_categories=("Cs", "Cc"))), min_size=1))
def test_any_text_survives_the_round_trip(lines):
    signer = new_signer("example.com/log")
    text = "\n".join(lines) + "\n"
    parsed = Note.parse(sign_note(text, [signer]))
    assert parsed.text == text
    assert parsed.opened_by([signer.key])


def test_signatures_of_unknown_keys_are_ignored(signer):
    stranger, same_name = new_signer("witness.example"), new_signer("example.com/log")
    note = Note.parse(sign_note(TEXT, [stranger, signer, same_name]))
    assert note.opened_by([signer.key]) == (signer.key,)
    assert note.opened_by([same_name.key, signer.key]) == (signer.key, same_name.key)


def test_a_note_that_no_known_key_signed_is_refused(note):
    with pytest.raises(SignatureRefused, match="none of the known keys"):
        Note.parse(note).opened_by([new_signer("example.com/log").key])
    with pytest.raises(SignatureRefused, match="none of the known keys"):
        Note.parse(note).opened_by([])


def test_one_wrong_signature_of_a_known_key_refuses_the_note(signer):
    other = new_signer("example.com/log")
    forged = NoteSigner(other.key, lambda _: b"x" * 64)
    note = Note.parse(sign_note(TEXT, [signer, forged]))
    assert note.opened_by([signer.key])
    with pytest.raises(SignatureRefused, match="is wrong"):
        note.opened_by([signer.key, other.key])


def test_a_signature_of_the_wrong_length_is_refused(signer):
    note = sign_note(TEXT, [signer])
    short = base64.b64encode(signer.key.key_id + b"x" * 40).decode()
    text, _, _ = note.rpartition(" ")
    with pytest.raises(SignatureRefused, match="is wrong"):
        Note.parse(f"{text} {short}\n").opened_by([signer.key])


def test_a_known_key_signs_once(signer, note):
    twice = Note.parse(note + note.splitlines(keepends=True)[-1])
    with pytest.raises(SignatureRefused, match="signed twice"):
        twice.opened_by([signer.key])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda note: note.removesuffix("\n"), "cut off"),
        (lambda note: note.replace("\n\n", "\n"), "blank line"),
        (lambda note: note + "\n", "this one has none"),
        (lambda note: note.replace("— ", "- "), "em dash"),
        (lambda note: note.replace("— ", "—"), "em dash"),
        (lambda note: note.replace("\n", "\r\n"), "control characters"),
        (lambda note: "\0" + note, "control characters"),
        (lambda note: note[:-2] + "\n", "not base64"),
        (lambda note: note[:-1] + " \n", "not base64"),
        (lambda note: note[:-1] + "=\n", "base64"),
        (lambda note: f"{TEXT}\n— example.com/log\n", "no signature after the name"),
        (lambda note: f"{TEXT}\n— example.com/log AAAA\n", "too short"),
        (lambda note: f"{TEXT}\n—  AAAAAAAA\n", "can't be a key name"),
        (lambda note: f"{TEXT}\n— a+b AAAAAAAA\n", "can't be a key name"),
        (lambda note: f"{TEXT}\n— a\N{NO-BREAK SPACE}b AAAAAAAA\n", "can't be a key name"),
        (lambda note: f"{TEXT}\n", "this one has none"),
        (lambda note: "", "blank line"),
        (lambda note: note + note.splitlines(keepends=True)[-1] * 100, "at most 100"),
        (lambda note: "x" * (1 << 20) + note, "at most 1048576"),
        (lambda note: note.encode() + b"\xff", "UTF-8"),
        (lambda note: note + "\ud800", "UTF-8"),
    ],
)
def test_a_malformed_note_is_refused(note, change, message):
    with pytest.raises(NoteError, match=message):
        Note.parse(change(note))


def test_base64_that_is_not_canonical_is_refused(note):
    """The last digit before the padding has spare bits; two texts must not stand for one signature."""
    assert note.endswith("=\n")
    digit = note[-3]
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    with pytest.raises(NoteError, match="canonical form of base64"):
        Note.parse(note[:-3] + alphabet[alphabet.index(digit) + 1] + "=\n")


@given(st.binary(max_size=300))
def test_garbage_is_refused_and_nothing_else_happens(garbage):
    with pytest.raises(NoteError):
        Note.parse(garbage).opened_by([VerifierKey.parse(PUBLISHED_KEY)])


@given(st.data())
def test_no_changed_byte_of_a_note_is_accepted(data):
    raw = PUBLISHED.encode()
    at = data.draw(st.integers(min_value=0, max_value=len(raw) - 1))
    byte = data.draw(st.integers(min_value=0, max_value=255).filter(lambda value: value != raw[at]))
    with pytest.raises(NoteError):
        Note.parse(raw[:at] + bytes([byte]) + raw[at + 1 :]).opened_by([VerifierKey.parse(PUBLISHED_KEY)])


@pytest.mark.parametrize("text", ["", "no newline at the end", "tab\there\n", "nul\0\n", "cr\r\n", "\ud800\n"])
def test_a_text_that_can_not_stand_in_a_note_is_not_signed(signer, text):
    with pytest.raises(NoteError, match="a note's text"):
        sign_note(text, [signer])


def test_a_note_without_signers_is_not_made():
    with pytest.raises(NoteError, match="needs a signature"):
        sign_note(TEXT, [])


def test_a_signing_function_that_returns_no_signature_is_noticed(signer):
    with pytest.raises(NoteError, match="returned 3 bytes"):
        sign_note(TEXT, [NoteSigner(signer.key, lambda _: b"abc")])
