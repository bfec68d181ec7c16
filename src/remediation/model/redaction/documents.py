"""Secrets in the formats of files and protocols: XML and HTML, netrc, pgpass, shadow, SQL, kubeconfig, JSON web keys, queries of URLs."""

from __future__ import annotations

import base64
import binascii
import re

from remediation.model.redaction.assignments import WORD_SIGNS, is_value
from remediation.model.redaction.names import names_secret
from remediation.model.redaction.rules import MASKS, Rule, masked, matching

_NAME = r"[A-Za-z_][\w:.-]{0,127}"
_ELEMENTS = re.compile(
    rf"<(?:key|name|param-name)>\s{{0,64}}+(?P<key>{_NAME})\s{{0,64}}+</[\w:.-]{{1,40}}>\s{{0,64}}+<[\w:.-]{{1,40}}>"
    r"(?P<value>[^<>]{1,65536}+)</"
    rf"|<(?P<element>{_NAME})(?:\s[^<>]{{0,1024}}+)?>\s{{0,64}}+(?:<!\[CDATA\[)?(?P<content>[^<>]{{1,65536}}+)(?:>)?</"
    rf"|(?<=\s)(?:key|name|id)=\\?[\"'](?P<entry>{_NAME})\\?[\"']\s{{1,64}}+(?:type=\\?[\"']\w{{1,16}}\\?[\"']\s{{1,64}}+)?"
    r"value=\\?[\"'](?P<held>[^\"'<>\\]{1,4096})"
)
_VALUES = {"element": "content", "key": "value", "entry": "held"}


def _element(match: re.Match[str]) -> str:
    kind = next(kind for kind in _VALUES if match[kind])
    name, group = match[kind], _VALUES[kind]
    value = match[group].removesuffix("]]")
    if not names_secret(name) or not is_value(value.strip()) or MASKS.fullmatch(value.strip()):
        return match.group()
    if name.lower().endswith("pass") and value.strip().isdigit():
        return match.group()
    begin = match.start(group)
    mask = masked("password" if "pass" in name.lower() or "pwd" in name.lower() else "secret")
    return match.string[match.start() : begin] + mask + match.string[begin + len(value) : match.end()]


def _elements(text: str) -> str:
    if "</" not in text and "value=" not in text:
        return text
    result = _ELEMENTS.sub(_element, text)
    return text if result == text else result


ELEMENTS = Rule("element", WORD_SIGNS, _elements, named=True)
"""``<password>…</password>``, ``<name>db.password</name><value>…</value>``, ``<add key="DbPassword" value="…"/>``."""


def credentials_in(match: re.Match[str]) -> bool:
    """RFC 7617: base64 of ``user:password``."""
    try:
        return b":" in base64.b64decode(match[1] + "=" * (-len(match[1]) % 4), validate=True)
    except (binascii.Error, ValueError):
        return False


def _last_is_value(match: re.Match[str]) -> bool:
    value = match[match.lastindex or 0]
    return is_value(value) and MASKS.fullmatch(value) is None


def _pgpass(match: re.Match[str]) -> bool:
    """Whether this stands behind a host, and nothing behind it: five fields, as in ``host:5432:db:user:password``."""
    host = re.split(r"[\s\"'()]", match.string[max(0, match.start() - 256) : match.start()])[-1]
    return host != "" and ":" not in host and _last_is_value(match)


_MIXED = re.compile(r"(?=[^0-9]*[0-9])(?=[^A-Z]*[A-Z])(?=[^a-z]*[a-z])")
_PARAMETERS = "key|auth|code|hmac|ticket|hash|sid|ssid|jsessionid|JSESSIONID|PHPSESSID|signature|Signature"
_LONG = re.compile(r"[0-9a-z]{20,}")


def _random(match: re.Match[str]) -> bool:
    """Whether a parameter's value looks made by chance: letters of both cases and digits, or many without a border."""
    value = match[match.lastindex or 0]
    return _MIXED.match(value) is not None or (_LONG.fullmatch(value) is not None and any(map(str.isdigit, value)))


DOCUMENTS: tuple[Rule, ...] = (
    # The configurations of docker and npm: base64 of user and password.
    matching(
        "basic-credentials",
        'auth": auth\\": _auth',
        r"auth\\?\"?[ \t]{0,8}[:=][ \t]{0,8}\\?\"?([A-Za-z0-9+/]{8,}={0,2})",
        accept=credentials_in,
    ),
    # A private key in base64, as kubeconfig and secrets of Kubernetes hold it: `-----BEGIN ` and what begins the name of one.
    matching("private-key", "LS0tLS1CRUdJTiB", r"LS0tLS1CRUdJTiB(?:QUklW|QR1AgUFJJ|[SFPE])[A-Za-z0-9+/=_-]{16,}"),
    # RFC 7518: the private members of a key.
    matching(
        "private-key",
        '"kty": kty\\":',
        r"\\?\"(?:d|p|q|dp|dq|qi|k)\\?\"[ \t]{0,8}:[ \t]{0,8}\\?\"([A-Za-z0-9_-]{16,})",
    ),
    matching(
        "password-hash",
        "$1$ $5$ $6$ $y$ $7$ $2a$ $2b$ $2y$ $argon2 $scrypt$ $pbkdf2",
        r"\$(?:[1567y]|2[abxy]|argon2(?:id?|d)|scrypt|pbkdf2(?:-sha[0-9]{1,3})?)\$([A-Za-z0-9./$=,+-]{20,})",
    ),
    matching("password-hash", "pbkdf2_sha", r"pbkdf2_sha[0-9]{1,3}\$[0-9]{1,9}\$([A-Za-z0-9./$=+]{20,})"),
    matching("password-hash", "SHA} SHA256} SHA512}", r"\{S?SHA(?:256|512)?\}([A-Za-z0-9+/]{20,}={0,2})"),
    matching(
        "password",
        "password␣",
        r"login[ \t\r\n]{1,8}[^\s]{1,256}[ \t\r\n]{1,8}password[ \t\r\n]{1,8}([^\s\"']+)",
        accept=_last_is_value,
    ),
    matching(
        "password",
        ":543 :*:",
        r":(?:543[0-9]|\*):[^:\s]{1,64}:[^:\s]{1,64}:((?:[^\s:\\\"')]|\\.){1,1024}+)(?![^\s\"')])",
        accept=_pgpass,
    ),
    matching(
        "password",
        "assword␣' ASSWORD␣' Y␣' y␣' D␣'",
        r"(?i)(?:password|identified(?:[ \t]{1,4}with[ \t]{1,4}[\w']{1,64})?[ \t]{1,4}by(?:[ \t]{1,4}password)?)[ \t]{1,4}"
        r"'((?:[^'\\\r\n]|\\.|'')+)",
        accept=_last_is_value,
    ),
    matching(
        "url-parameter",
        " ".join(f"{mark}{name}=" for mark in "?&;" for name in _PARAMETERS.split("|")),
        rf"[?&;](?:{_PARAMETERS})=([A-Za-z0-9%._~+-]{{16,}}={{0,2}})",
        accept=_random,
    ),
)
"""The others, by their own forms."""
