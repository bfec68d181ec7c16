"""The redactor: what is masked in texts and JSON, whatever stands around it, and what it costs."""

import base64
import json
import random
import re
import string
import time
import urllib.parse

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.support.secret_lines import positive

from remediation.model.redaction import Redactor, masked
from remediation.model.redaction.names import names_secret
from remediation.model.redaction.patterns import BUILTIN
from remediation.model.redaction.values import forms

REDACTOR = Redactor()
VALUE = "kQ7/x+Zr ü\"'\\9&"
KNOWING = Redactor(values=[VALUE, "correct horse battery staple"])
LINES = positive(7)
# What stands around a secret in texts, with what may continue a token left out: nobody could say where that one ends.
AROUND = st.text(st.characters(codec="utf-8", exclude_characters="+/=_-.%~@:\\\"'[]{}<>&?#"), max_size=40)


def pem(kind: str) -> str:
    if kind == "openssh":
        made = ed25519.Ed25519PrivateKey.generate()
        form = serialization.PrivateFormat.OpenSSH
    else:
        made, form = ec.generate_private_key(ec.SECP256R1()), getattr(serialization.PrivateFormat, kind)
    return made.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()).decode()


@given(AROUND, st.sampled_from(LINES), st.sampled_from([" ", "\n", "; ", " | "]), AROUND)
@settings(max_examples=600)
def test_no_secret_is_left_wherever_it_stands(before: str, line: object, gap: str, after: str) -> None:
    text = f"{before}{gap}{line.text}{gap}{after}"
    result = REDACTOR.text(text)
    assert not any(len(secret) > 4 and secret in result for secret in line.secrets), result
    assert REDACTOR.text(result) == result


@given(
    st.lists(
        st.one_of(
            st.text(max_size=20),
            st.sampled_from([line.text for line in LINES]),
            st.sampled_from(BUILTIN).map(lambda rule: rule.signs[0]),
            st.sampled_from(["password=", '"token": "', "://a:", "@", "[redacted:jwt]", "\n", '"', "\\"]),
        ),
        max_size=12,
    ).map("".join)
)
@settings(max_examples=1500)
def test_what_is_masked_once_is_masked_no_further(text: str) -> None:
    once = KNOWING.text(text)
    assert KNOWING.text(once) == once
    assert KNOWING.credentials(KNOWING.credentials(text)) == KNOWING.credentials(text)


@given(st.text(string.ascii_letters + " ,!()\n", max_size=300))
def test_plain_words_are_returned_as_they_are(text: str) -> None:
    assert REDACTOR.text(text) is text


@given(AROUND, AROUND)
@example("", "")
def test_a_known_value_is_masked_in_all_its_forms(before: str, after: str) -> None:
    written = [
        VALUE,
        json.dumps(VALUE)[1:-1],
        json.dumps(VALUE, ensure_ascii=False)[1:-1],
        urllib.parse.quote(VALUE),
        urllib.parse.quote(VALUE, safe=""),
        urllib.parse.quote_plus(VALUE),
        json.dumps(json.dumps(VALUE))[3:-3],
    ]
    for form in written:
        assert KNOWING.text(f"{before} {form} {after}") == KNOWING.text(f"{before} ") + masked("vault") + KNOWING.text(f" {after}")


@given(st.binary(max_size=30), st.binary(max_size=30), st.sampled_from([base64.b64encode, base64.urlsafe_b64encode]))
def test_a_known_value_inside_what_is_base64_is_masked(before: bytes, after: bytes, encode: object) -> None:
    encoded = encode(before + VALUE.encode() + after).decode()
    result = KNOWING.text(f"x {encoded} x")
    assert masked("vault") in result
    assert not any(form in result for form in forms(VALUE))


def test_a_short_value_is_not_looked_for_and_one_that_stands_in_masks_is_no_trouble() -> None:
    assert Redactor(values=["abcdef"]).text("abcdef") == "abcdef"
    for value in ("redacted", "password", "[redacted:vault]", "vault]x"):
        redactor = Redactor(values=[value])
        once = redactor.text(f"x {value} pwd=hunter2 {value}")
        assert redactor.text(once) == once
        assert "hunter2" not in once


@pytest.mark.parametrize("value", ["hunter2-secret-value", "correct-horse", "a1b2c3d4e5"])
def test_what_only_looks_like_a_mask_hides_no_known_value(value: str) -> None:
    redactor = Redactor(values=[value])
    for text in (
        f"[redacted:{value}]",
        f"x [redacted:{value}-more] y",
        f"[redacted:vault][redacted:{value}]",
        f"password=[redacted:{value}]",
    ):
        masked = redactor.text(text)
        assert value not in masked, masked
        assert redactor.text(masked) == masked
    assert (
        redactor.text("[redacted:vault] [redacted:private-key] [redacted:email]")
        == "[redacted:vault] [redacted:private-key] [redacted:email]"
    )


def test_each_line_of_a_value_of_several_lines_is_a_secret() -> None:
    key = pem("PKCS8")
    redactor = Redactor(values=[key])
    line = key.splitlines()[1]
    assert redactor.text(f"it printed {line} and stopped") == f"it printed {masked('vault')} and stopped"


def test_the_beginning_of_a_known_value_that_a_cut_left_is_masked() -> None:
    text = "the answer was correct horse bat… [4711 characters, cut]"
    assert KNOWING.text(text) == f"the answer was {masked('vault')}… [4711 characters, cut]"


@pytest.mark.parametrize("kind", ["PKCS8", "TraditionalOpenSSL", "openssh"])
def test_a_private_key_is_masked_whole_in_part_and_escaped(kind: str) -> None:
    key = pem(kind)
    lines = key.strip().splitlines()
    assert REDACTOR.text(f"a\n{key}b") == f"a\n{masked('private-key')}\nb"
    for text in (
        key[:-40],
        "\n".join(lines[:-1]),
        "\n".join(lines[1:]),
        key.replace("\n", "\\n"),
        key.replace("\n", "\r\n"),
        json.dumps({"k": key}),
    ):
        result = REDACTOR.text(text)
        assert not any(line in result for line in lines if not line.startswith("-----") and len(line) > 8), result
        assert masked("private-key") in result
    assert REDACTOR.text(key + "between\n" + key) == f"{masked('private-key')}\nbetween\n{masked('private-key')}\n"


def test_marks_that_nobody_sees_hide_no_secret() -> None:
    token = "ghp_" + "a1B2" * 9
    hidden = "\u200b".join([token[:3], token[3:20], token[20:]])
    assert REDACTOR.text(f"é {hidden} x") == f"é {masked('github-token')} x"
    assert REDACTOR.text("na\u200bïve") == "na\u200bïve"


def test_what_stands_under_a_telling_name_is_masked_whole_and_names_stay() -> None:
    evidence = {
        "password": "x",
        "db": {"user": "bob", "clientSecret": {"a": [1, 2]}, "X-Api-Key": 12345, "port": 5432},
        "headers": [["Authorization", "Basic Zm9v"], ["Accept", "text/html"], ["Cookie", "a=b"]],
        "argv": ["tool", "--password", "hunter2", "--verbose", "--token", "--dry-run", "file"],
        "has_password": True,
        "token": None,
        "secret": "",
        "tokens": 17,
        "password_field": "pw",
        "monkey": "see",
    }
    assert REDACTOR.json(evidence) == {
        "password": "[redacted:secret]",
        "db": {"user": "bob", "clientSecret": "[redacted:secret]", "X-Api-Key": "[redacted:secret]", "port": 5432},
        "headers": [["Authorization", "[redacted:secret]"], ["Accept", "text/html"], ["Cookie", "[redacted:secret]"]],
        "argv": ["tool", "--password", "[redacted:secret]", "--verbose", "--token", "--dry-run", "file"],
        "has_password": True,
        "token": None,
        "secret": "",
        "tokens": 17,
        "password_field": "pw",
        "monkey": "see",
    }


def test_nothing_under_the_name_of_a_secret_is_no_secret() -> None:
    nothing = {"Token": [], "password": {}, "secret": "", "api_key": None}
    assert Redactor().json(nothing) == nothing


def test_typed_json_keeps_its_types_and_the_addresses_in_its_paths() -> None:
    value = {"token": 5, "path": "/srv/bob@example.org/x", "said": "bob@example.org said", "secret": {"a": "b", "n": 1}}
    assert REDACTOR.json(value, typed=True) == {
        "token": 5,
        "path": "/srv/bob@example.org/x",
        "said": "[redacted:email] said",
        "secret": {"a": "[redacted:secret]", "n": 1},
    }


def test_a_secret_in_a_name_is_masked_and_no_field_is_lost() -> None:
    token = "ghp_" + "a1B2" * 9
    result = REDACTOR.json({token: 1, token[:-1] + "9": 2})
    assert list(result.values()) == [1, 2]
    assert all("a1B2" not in name for name in result)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=20) | st.sampled_from([line.text for line in LINES]),
        lambda inner: (
            st.lists(inner, max_size=4)
            | st.dictionaries(st.text(max_size=8) | st.sampled_from(["password", "apiKey", "x"]), inner, max_size=4)
        ),
        max_leaves=20,
    )
)
@settings(max_examples=400)
def test_json_is_masked_once_and_for_all(value: object) -> None:
    for typed in (False, True):
        once = REDACTOR.json(value, typed=typed)
        assert REDACTOR.json(once, typed=typed) == once
        text = json.dumps(once)
        for line in LINES:
            if line.name not in ("email", "password", "secret", "cookie"):
                assert not any(len(secret) > 12 and secret in text for secret in line.secrets)


@pytest.mark.parametrize(
    "name",
    [
        "password",
        "DB_PASSWORD",
        "db.password",
        "clientSecret",
        "X-Api-Key",
        "apiKey",
        "Set-Cookie",
        "AUTHORIZATION",
        "private_key",
        "--token",
        "secret_2",
        "HTTPPassword",
        "credentials",
        "_auth",
    ],
)
def test_telling_names(name: str) -> None:
    assert names_secret(name)


@pytest.mark.parametrize(
    "name",
    [
        "password_field",
        "tokenCount",
        "key",
        "monkey",
        "secretary",
        "author",
        "passenger",
        "primary_key",
        "token_type",
        "",
        "keys",
        "compass",
        "cookie_jar",
    ],
)
def test_names_that_tell_nothing(name: str) -> None:
    assert not names_secret(name)


def attacks() -> list[str]:
    """Texts that almost match, again and again: signs, their beginnings, what they may be followed by, and each other."""
    signs = [sign for rule in BUILTIN for sign in rule.signs]
    parts = [
        *signs,
        *(sign * 2 for sign in signs),
        *(f"{sign}{tail}" for sign in signs for tail in ("a", "=", ": ", "='", ' "', "a.", "1:", "/a", "@a.", "\\", "a b")),
    ]
    parts += [
        "a",
        "A1",
        "=",
        ":",
        "@",
        "a@",
        "@a.",
        "@a.a",
        "://",
        "://a:",
        "://:",
        "-----BEGIN ",
        "-----BEGIN PRIVATE KEY-----",
        "-----END PRIVATE KEY-----",
        "eyJ.",
        "SG.",
        "--",
        "--a-",
        "password=[redacted:x]",
        '"password":"\\',
        "token\\\\\\",
        "[redacted:",
        "\u200b",
        "é@",
        "sk-",
        "… [1 characters, cut]",
    ]
    return list(dict.fromkeys(parts))


def seconds(text: str) -> float:
    begin = time.process_time()
    KNOWING.text(text)
    KNOWING.credentials(text)
    KNOWING.fires(text)
    return time.process_time() - begin


def test_the_time_is_linear_in_the_text_whatever_the_text_is() -> None:
    size = 1_500
    slow = []
    for part in attacks():
        text, longer = (part * (length // len(part)) + "!" for length in (size, 8 * size))
        # A quadratic rule takes 64 times as long for the eightfold text; a linear one 8 times.
        if seconds(longer) > 0.05 and min(seconds(longer) for _ in range(3)) > 24 * max(
            min(seconds(text) for _ in range(3)), 0.001
        ):
            slow.append(part)
    assert slow == []


def test_a_random_text_of_a_megabyte_takes_a_moment() -> None:
    rng = random.Random(1)
    text = "".join(rng.choices(string.printable, k=1_000_000))
    assert seconds(text) < 10


def test_the_signs_of_each_rule_are_in_what_it_matches() -> None:
    everything = Redactor()
    for line in LINES:
        assert everything.text(line.text) != line.text
    for rule in BUILTIN:
        assert rule.signs, rule.name
        assert re.fullmatch(r"[a-z0-9-]{1,64}", rule.name)
