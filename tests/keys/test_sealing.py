"""Encryption under a passphrase: opened by the right one only, and nothing of it can be changed."""

import base64

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt
from hypothesis import given, settings
from hypothesis import strategies as st

from remediation.keys import sealing
from remediation.keys.sealing import NotSealed, WrongPassphrase, read, seal

LIGHT = 14
SEALED = seal("test/1", b"the secret", b"passphrase", words=("public=abc",), log2_n=LIGHT)


def test_what_was_sealed_is_opened_by_the_passphrase_and_by_no_other_one() -> None:
    assert read(SEALED).open(b"passphrase") == b"the secret"
    for wrong in (b"Passphrase", b"passphrase ", b"", b"\0"):
        with pytest.raises(WrongPassphrase):
            read(SEALED).open(wrong)


def test_a_new_one_costs_what_is_promised_and_salt_and_nonce_are_fresh() -> None:
    one, two = (seal("test/1", b"x", b"p") for _ in range(2))
    assert b" n=17,r=8,p=1 " in one
    assert read(one).salt != read(two).salt
    assert read(one).nonce != read(two).nonce
    assert (len(read(one).salt), len(read(one).nonce)) == (32, 12)


def test_it_can_be_opened_by_the_published_algorithms_alone() -> None:
    header, _, secret = SEALED.partition(b"\n")
    _, _, _, salt, nonce, _ = header.decode().split(" ")
    key = Scrypt(salt=base64.b64decode(salt), length=32, n=2**LIGHT, r=8, p=1).derive(b"passphrase")
    assert AESGCM(key).decrypt(base64.b64decode(nonce), base64.b64decode(secret), header + b"\n") == b"the secret"


@given(at=st.integers(0, len(SEALED) - 1), flip=st.integers(1, 255))
@settings(max_examples=60, deadline=None)
def test_no_byte_can_be_changed(at: int, flip: int) -> None:
    changed = bytearray(SEALED)
    changed[at] ^= flip
    with pytest.raises((NotSealed, WrongPassphrase)):
        read(bytes(changed)).open(b"passphrase")


@pytest.mark.parametrize(
    ("parameters", "refused"),
    [
        (b"n=13,r=8,p=1", "n=13"),
        (b"n=21,r=8,p=1", "n=21"),
        (b"n=63,r=8,p=1", "n=63"),
        (b"n=14,r=9,p=1", "r=9"),
        (b"n=14,r=8,p=2", "p=2"),
        (b"n=999,r=8,p=1", "first line"),
        (b"n=14,r=8", "first line"),
    ],
)
def test_parameters_that_would_be_cheap_or_take_the_host_down_are_refused_before_any_work(parameters: bytes, refused: str) -> None:
    with pytest.raises(NotSealed, match=refused):
        read(SEALED.replace(b"n=14,r=8,p=1", parameters))


def test_a_header_holds_no_white_space_of_its_owner() -> None:
    with pytest.raises(ValueError, match="white space"):
        seal("test/1", b"", b"p", words=("two words",), log2_n=LIGHT)
    assert sealing.LOG2_N == 17
