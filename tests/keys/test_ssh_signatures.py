"""SSH signatures: what is refused, and that nothing altered verifies."""

import base64
from datetime import UTC, datetime

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA1, SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.ssh import NAMESPACE, Token, made_key, ssh_keygen

from remediation.keys.ssh import (
    AllowedSigner,
    AllowedSigners,
    NotAllowed,
    PublicKey,
    PublicKeyRefused,
    SignatureRefused,
    SigningFailed,
    SshSignature,
    sign,
    verify,
    wire,
)
from remediation.keys.ssh.sshsig import signed_data

NOW = datetime(2026, 3, 1, tzinfo=UTC)
DOCUMENT = b'{"decision":"approve"}'
PRIVATE = {
    "ssh-ed25519": ed25519.Ed25519PrivateKey.generate(),
    "ecdsa-sha2-nistp256": ec.generate_private_key(ec.SECP256R1()),
    "ecdsa-sha2-nistp384": ec.generate_private_key(ec.SECP384R1()),
    "ecdsa-sha2-nistp521": ec.generate_private_key(ec.SECP521R1()),
    "ssh-rsa": rsa.generate_private_key(65537, 2048),
}
TOKENS = {kind: Token(kind) for kind in ("ed25519", "ecdsa")}


def public(private) -> PublicKey:
    return PublicKey.of_line(private.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode())


SIGNED = [(public(private), sign(DOCUMENT, private, NAMESPACE)) for private in PRIVATE.values()]
SIGNED += [(token.key, token.sign(DOCUMENT)) for token in TOKENS.values()]


def signers_of(key: PublicKey, **more) -> AllowedSigners:
    return AllowedSigners((AllowedSigner("ana", key, (NAMESPACE,), **more),))


def verified(document: bytes, signature: str, key: PublicKey) -> bool:
    try:
        return verify(document, signature, signers_of(key), NAMESPACE, NOW) == "ana"
    except SignatureRefused:
        return False


@pytest.mark.parametrize(("key", "signature"), SIGNED, ids=lambda value: getattr(value, "kind", ""))
def test_an_unaltered_signature_verifies(key, signature):
    assert verified(DOCUMENT, signature, key)


@given(which=st.sampled_from(range(len(SIGNED))), at=st.integers(0, 10_000), flip=st.integers(1, 255))
@settings(max_examples=400, deadline=None)
def test_no_altered_byte_of_the_signature_verifies(which, at, flip):
    key, signature = SIGNED[which]
    raw = bytearray(base64.b64decode("".join(signature.split("\n")[1:-2])))
    raw[at % len(raw)] ^= flip
    text = base64.b64encode(raw).decode()
    assert not verified(DOCUMENT, f"-----BEGIN SSH SIGNATURE-----\n{text}\n-----END SSH SIGNATURE-----\n", key)


@given(which=st.sampled_from(range(len(SIGNED))), at=st.integers(0, 10_000), other=st.characters(max_codepoint=0x2FF))
@settings(max_examples=400, deadline=None)
def test_no_altered_character_of_the_armour_verifies(which, at, other):
    key, signature = SIGNED[which]
    at %= len(signature)
    altered = signature[:at] + other + signature[at + 1 :]
    # Where the text is broken into lines is nobody's business; what it says is.
    same = altered == signature
    assert verified(DOCUMENT, altered, key) == same


@given(which=st.sampled_from(range(len(SIGNED))), at=st.integers(0, 100), flip=st.integers(1, 255))
@settings(max_examples=100, deadline=None)
def test_no_altered_byte_of_the_document_verifies(which, at, flip):
    key, signature = SIGNED[which]
    document = bytearray(DOCUMENT)
    document[at % len(document)] ^= flip
    assert not verified(bytes(document), signature, key)


@given(st.binary(max_size=300))
@settings(max_examples=300, deadline=None)
def test_noise_is_refused_and_never_a_crash(noise):
    text = base64.b64encode(b"SSHSIG\0\0\0\1" + noise).decode()
    for armoured in (noise.decode("latin-1"), f"-----BEGIN SSH SIGNATURE-----\n{text}\n-----END SSH SIGNATURE-----\n"):
        with pytest.raises(SignatureRefused):
            SshSignature.parse(armoured)
    with pytest.raises(PublicKeyRefused):
        PublicKey.of_blob(noise)


@pytest.mark.parametrize("size", [0, 1, 5, 10, 40, 90])
def test_a_truncated_signature_is_refused(size):
    raw = base64.b64decode("".join(SIGNED[0][1].split("\n")[1:-2]))
    text = base64.b64encode(raw[:size]).decode()
    with pytest.raises(SignatureRefused):
        SshSignature.parse(f"-----BEGIN SSH SIGNATURE-----\n{text}\n-----END SSH SIGNATURE-----\n")


@pytest.mark.parametrize(
    "text",
    ["", "x", "-----BEGIN SSH SIGNATURE-----", "-----BEGIN SSH SIGNATURE-----\n-----END SSH SIGNATURE-----\n"],
)
def test_what_is_no_armour_is_refused(text):
    with pytest.raises(SignatureRefused):
        SshSignature.parse(text)


def test_nothing_may_stand_around_a_signature():
    signature = SIGNED[0][1]
    for text in (f"\n{signature}", f" {signature}", f"{signature}\n", f"{signature}x", f"hello\n{signature}", signature * 2):
        with pytest.raises(SignatureRefused):
            SshSignature.parse(text)
    assert SshSignature.parse(signature.replace("\n", "\r\n")) == SshSignature.parse(signature.removesuffix("\n"))


def test_a_signature_for_something_else_is_refused_with_both_names():
    signature = sign(DOCUMENT, PRIVATE["ssh-ed25519"], "git")
    with pytest.raises(SignatureRefused, match=r"'git', not for 'remediation-approval'"):
        verify(DOCUMENT, signature, signers_of(public(PRIVATE["ssh-ed25519"])), NAMESPACE, NOW)


def test_a_key_that_is_not_listed_is_refused_with_its_fingerprint():
    key = public(PRIVATE["ssh-ed25519"])
    with pytest.raises(NotAllowed, match="SHA256:") as refused:
        verify(DOCUMENT, SIGNED[0][1], signers_of(public(PRIVATE["ssh-rsa"])), NAMESPACE, NOW)
    assert key.fingerprint in str(refused.value)


def test_a_key_that_is_listed_for_something_else_is_refused():
    signers = AllowedSigners((AllowedSigner("ana", SIGNED[0][0], ("git", "file")),))
    with pytest.raises(NotAllowed, match="only for git, file"):
        verify(DOCUMENT, SIGNED[0][1], signers, NAMESPACE, NOW)


def test_a_key_may_be_listed_for_several_times_of_one_person():
    key, signature = SIGNED[0]
    early = AllowedSigner("ana", key, (NAMESPACE,), valid_before=datetime(2025, 1, 1, tzinfo=UTC))
    late = AllowedSigner("ana", key, (NAMESPACE,), valid_after=datetime(2026, 1, 1, tzinfo=UTC))
    assert verify(DOCUMENT, signature, AllowedSigners((early, late)), NAMESPACE, NOW) == "ana"
    with pytest.raises(NotAllowed, match="was valid only before 2025-01-01 00:00:00Z"):
        verify(DOCUMENT, signature, AllowedSigners((early,)), NAMESPACE, NOW)
    with pytest.raises(NotAllowed, match="valid only after 2026-01-01 00:00:00Z"):
        verify(DOCUMENT, signature, AllowedSigners((late,)), NAMESPACE, datetime(2025, 6, 1, tzinfo=UTC))


@pytest.mark.parametrize("token", TOKENS.values(), ids=TOKENS)
def test_a_token_that_nobody_touched_does_not_consent(token):
    for flags in (0x00, 0x04):
        with pytest.raises(SignatureRefused, match="nobody touched"):
            verify(DOCUMENT, token.sign(DOCUMENT, flags=flags), signers_of(token.key), NAMESPACE, NOW)
    assert verified(DOCUMENT, token.sign(DOCUMENT, flags=0x05), token.key)


def test_a_token_for_another_application_is_another_key():
    mine, web = Token("ed25519"), Token("ed25519", "https://example.com")
    assert verified(DOCUMENT, web.sign(DOCUMENT), web.key)
    assert not verified(DOCUMENT, web.sign(DOCUMENT), mine.key)


def rsa_signature(algorithm: str, hashed) -> str:
    from cryptography.hazmat.primitives.asymmetric import padding

    private = PRIVATE["ssh-rsa"]
    raw = private.sign(signed_data(DOCUMENT, NAMESPACE, "sha512"), padding.PKCS1v15(), hashed)
    return SshSignature(public(private), NAMESPACE, "sha512", wire.string(algorithm) + wire.string(raw)).armoured


def test_rsa_signs_with_sha_2_only():
    key = public(PRIVATE["ssh-rsa"])
    assert verified(DOCUMENT, rsa_signature("rsa-sha2-256", SHA256()), key)
    with pytest.raises(SignatureRefused, match="rsa-sha2-256 or rsa-sha2-512"):
        verify(DOCUMENT, rsa_signature("ssh-rsa", SHA1()), signers_of(key), NAMESPACE, NOW)
    assert not verified(DOCUMENT, rsa_signature("rsa-sha2-512", SHA256()), key)


def test_a_small_rsa_key_is_refused(tmp_path):
    path = tmp_path / "small"
    assert ssh_keygen("-q", "-t", "rsa", "-b", "1024", "-N", "", "-f", path).returncode == 0
    with pytest.raises(PublicKeyRefused, match="1024 bits"):
        PublicKey.of_line(path.with_name("small.pub").read_text())


def test_a_dsa_key_is_refused():
    with pytest.raises(PublicKeyRefused, match="ssh-dss"):
        PublicKey.of_blob(b"".join(wire.string(part) for part in ("ssh-dss", b"\1", b"\1", b"\1", b"\1")))


def test_a_certificate_is_refused(tmp_path):
    authority, key = made_key(tmp_path, name="ca"), made_key(tmp_path)
    ssh_keygen("-q", "-s", authority, "-I", "ana", "-n", "ana", f"{key}.pub")
    with pytest.raises(PublicKeyRefused, match="ssh-ed25519-cert-v01"):
        PublicKey.of_line(key.with_name(f"{key.name}-cert.pub").read_text())


def test_a_key_that_calls_itself_another_is_refused():
    with pytest.raises(PublicKeyRefused, match="calls the key 'ssh-rsa'"):
        PublicKey.of_line(SIGNED[0][0].line.replace("ssh-ed25519 ", "ssh-rsa ", 1))


def ecdsa_with(r: bytes, s: bytes) -> str:
    key = public(PRIVATE["ecdsa-sha2-nistp256"])
    raw = wire.string(r) + wire.string(s)
    return SshSignature(key, NAMESPACE, "sha512", wire.string(key.kind) + wire.string(raw)).armoured


def test_a_number_that_is_not_in_its_shortest_form_is_refused():
    private = PRIVATE["ecdsa-sha2-nistp256"]
    r, s = decode_dss_signature(private.sign(signed_data(DOCUMENT, NAMESPACE, "sha512"), ec.ECDSA(SHA256())))
    shortest = wire.mpint(r)[4:], wire.mpint(s)[4:]
    assert verified(DOCUMENT, ecdsa_with(*shortest), public(private))
    for padded in (
        (b"\0" + shortest[0], shortest[1]),
        (shortest[0], b"\0\0" + shortest[1]),
        (b"", shortest[1]),
        (b"\x80", b"\x01"),
    ):
        with pytest.raises(SignatureRefused, match="shortest form"):
            verify(DOCUMENT, ecdsa_with(*padded), signers_of(public(private)), NAMESPACE, NOW)


def test_a_signature_with_a_reserved_field_is_refused():
    raw = base64.b64decode("".join(SIGNED[0][1].split("\n")[1:-2]))
    empty = wire.string(NAMESPACE) + wire.string(b"")
    assert raw.count(empty) == 1
    text = base64.b64encode(raw.replace(empty, wire.string(NAMESPACE) + wire.string(b"later"))).decode()
    with pytest.raises(SignatureRefused, match="reserved"):
        SshSignature.parse(f"-----BEGIN SSH SIGNATURE-----\n{text}\n-----END SSH SIGNATURE-----\n")


@pytest.mark.parametrize("namespace", ["", "ünsafe", "a\nb"])
def test_what_can_be_no_namespace_signs_nothing(namespace):
    with pytest.raises(SigningFailed):
        sign(DOCUMENT, PRIVATE["ssh-ed25519"], namespace)
