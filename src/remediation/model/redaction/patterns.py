"""The built-in classes of secrets, in the order in which they are masked: what is certain goes before what is guessed by a name."""

from __future__ import annotations

import re

from remediation.model.redaction.addresses import ADDRESSES
from remediation.model.redaction.assignments import ASSIGNMENTS, FLAGS, USERS
from remediation.model.redaction.commands import COMMANDS
from remediation.model.redaction.documents import DOCUMENTS, ELEMENTS, credentials_in
from remediation.model.redaction.rules import MASK, MASKS, PRIVATE_KEYS, Rule, matching
from remediation.model.redaction.tokens import ISSUERS, SERVICES

_DIGIT = re.compile(r"[0-9]")


def _no_word(match: re.Match[str]) -> bool:
    """A token, and no word of a sentence (``Bearer authentication``)."""
    value = match[match.lastindex or 0]
    return len(value) >= 24 or _DIGIT.search(value) is not None or any(sign in value for sign in "._~+/=")


def _no_mask(match: re.Match[str]) -> bool:
    return MASKS.fullmatch(match[match.lastindex or 0]) is None


BUILTIN: tuple[Rule, ...] = (
    PRIVATE_KEYS,
    # RFC 3986, 3.2.1: what stands between the first colon and the last @ of the authority; and tokens that stand alone before the @.
    matching("url-password", "://", r"://[^\s/?#:@\"'<>]{0,256}:([^\s/?#\"'<>]{1,1024})@", accept=_no_mask),
    matching("url-password", "://", r"://([A-Za-z0-9_~.-]{20,1024})@"),
    # RFC 9110, 11.6.2; RFC 6750.
    matching(
        "authorization",
        "authorization",
        r"(?i)authorization\\?[\"']?[ \t]{0,8}[:=][ \t]{0,8}\\?[\"']?"
        r"(?:basic|bearer|token|negotiate|ntlm|api-?key|ssws|key|jwt)[ \t]{1,8}"
        rf"(?!{MASK})([^\s\"',;\\]+)",
        named=True,
    ),
    matching(
        "authorization",
        "authorization",
        r"(?i)authorization\\?[\"']?[ \t]{0,8}[:=][ \t]{0,8}\\?[\"']?(?:digest|aws4-hmac-sha256|oauth|hawk|signature)[ \t]{1,8}"
        rf"(?!{MASK})([^\s][^\r\n]*)",
        named=True,
    ),
    matching("bearer-token", "earer EARER", r"(?i)bearer(?:[ \t]|%20|\+){1,8}([A-Za-z0-9._~+/=-]{8,})", accept=_no_word),
    matching("basic-credentials", "asic BASIC", r"(?i)basic[ \t]{1,8}([A-Za-z0-9+/]{8,}={0,2})", accept=credentials_in),
    # RFC 6265.
    matching("cookie", "cookie:", rf"(?i)cookie:[ \t]{{0,8}}(?!{MASK})([^\s\"'=]{{1,256}}=[^\r\n\"']{{4,}})", named=True),
    *ISSUERS,
    *SERVICES,
    *DOCUMENTS,
    ELEMENTS,
    USERS,
    COMMANDS,
    FLAGS,
    ASSIGNMENTS,
    ADDRESSES,
)
"""All of them."""
