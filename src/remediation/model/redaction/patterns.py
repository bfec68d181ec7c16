"""
The built-in classes of secrets, in the order in which they are masked: what is certain goes before what is guessed by a name.

Forms are those that the issuers document (prefixes, alphabets, lengths; as GitHub's secret scanning and the gitleaks rules list
them), with lengths a little below what is issued today.
"""

from __future__ import annotations

import base64
import binascii
import re

from remediation.model.redaction.assignments import ASSIGNMENTS, FLAGS, USERS
from remediation.model.redaction.rules import ADDRESSES, PRIVATE_KEYS, Rule, matching

_DIGIT = re.compile(r"[0-9]")


def _no_word(match: re.Match[str]) -> bool:
    """A token, and no word of a sentence (``Bearer authentication``)."""
    value = match[match.lastindex or 0]
    return len(value) >= 24 or _DIGIT.search(value) is not None or any(sign in value for sign in "._~+/=")


def _with_digit(match: re.Match[str]) -> bool:
    return _DIGIT.search(match.group()) is not None


def _credentials(match: re.Match[str]) -> bool:
    """RFC 7617: base64 of ``user:password``."""
    try:
        return b":" in base64.b64decode(match[1] + "=" * (-len(match[1]) % 4), validate=True)
    except (binascii.Error, ValueError):
        return False


def _no_mask(match: re.Match[str]) -> bool:
    return not match[match.lastindex or 0].startswith("[redacted:")


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
        r"(?:basic|bearer|token|negotiate|ntlm|api-?key|ssws|key|jwt)[ \t]{1,8}([^\s\"',;\\\[][^\s\"',;\\]*)",
        named=True,
    ),
    matching(
        "authorization",
        "authorization",
        r"(?i)authorization\\?[\"']?[ \t]{0,8}[:=][ \t]{0,8}\\?[\"']?(?:digest|aws4-hmac-sha256|oauth|hawk|signature)[ \t]{1,8}"
        r"([^\s\[][^\r\n]*)",
        named=True,
    ),
    matching("bearer-token", "earer EARER", r"(?i)bearer(?:[ \t]|%20|\+){1,8}([A-Za-z0-9._~+/=-]{8,})", accept=_no_word),
    matching("basic-credentials", "asic BASIC", r"(?i)basic[ \t]{1,8}([A-Za-z0-9+/]{8,}={0,2})", accept=_credentials),
    # RFC 6265.
    matching("cookie", "cookie:", r"(?i)cookie:[ \t]{0,8}([^\s\"'\[=]{1,256}=[^\r\n\"']{4,})", named=True),
    matching("aws-key", "AKIA ASIA ABIA ACCA", r"A(?:KI|SI|BI|CC)A[A-Z0-9]{16}"),
    matching("github-token", "ghp_ gho_ ghu_ ghs_ ghr_", r"gh[pousr]_[A-Za-z0-9]{20,}"),
    matching("github-token", "github_pat_", r"github_pat_[A-Za-z0-9_]{22,}"),
    matching(
        "gitlab-token",
        "glpat- gldt- glrt- glptt- glft- glimt- glagent- glsoat- glcbt- gloas-",
        r"gl(?:pat|dt|rt|ptt|ft|imt|agent|soat|cbt|oas)-[A-Za-z0-9_=.-]{16,}",
    ),
    matching("slack-token", "xoxa xoxb xoxc xoxd xoxe xoxo xoxp xoxr xoxs", r"xox[a-eoprs](?:\.xox[bp])?-[A-Za-z0-9%-]{10,}"),
    matching("slack-token", "xapp-", r"xapp-[0-9]-[A-Za-z0-9-]{10,}"),
    matching("slack-webhook", "hooks.slack.com/", r"hooks\.slack\.com/(?:services|workflows|triggers)/([A-Za-z0-9/_+-]{16,})"),
    matching("discord-webhook", "/api/webhooks/", r"/api/webhooks/[0-9]{5,24}/([A-Za-z0-9_-]{20,})"),
    matching("stripe-key", "sk_live_ sk_test_ rk_live_ rk_test_", r"[sr]k_(?:live|test)_[A-Za-z0-9]{10,}"),
    matching("stripe-key", "whsec_", r"whsec_[A-Za-z0-9+/=]{16,}"),
    matching(
        "api-key",
        "sk-ant- sk-proj- sk-svcacct- sk-admin- sk-or-",
        r"sk-(?:ant|proj|svcacct|admin|or)-[A-Za-z0-9_-]{12,}",
    ),
    matching("api-key", "sk-", r"(?<![A-Za-z0-9_])sk-[A-Za-z0-9_-]{16,}", accept=_with_digit),
    matching("google-key", "AIza", r"AIza[A-Za-z0-9_-]{30,}"),
    matching("google-key", "ya29.", r"ya29\.[A-Za-z0-9_-]{20,}"),
    matching("google-key", "GOCSPX-", r"GOCSPX-[A-Za-z0-9_-]{20,}"),
    matching("npm-token", "npm_", r"npm_[A-Za-z0-9]{30,}"),
    matching("pypi-token", "pypi-", r"pypi-[A-Za-z0-9_-]{32,}"),
    # RFC 7519: the header is a JSON object, so that its base64url begins so; also cut off, or encrypted (RFC 7516).
    matching("jwt", "eyJ", r"eyJ[A-Za-z0-9_-]{14,}(?:\.[A-Za-z0-9_-]{0,65536}){0,4}"),
    matching("azure-secret", "8Q~ 7Q~", r"[A-Za-z0-9_~.-]{3}[78]Q~[A-Za-z0-9_~.-]{31,}"),
    matching("azure-signature", "sig=", r"(?<![A-Za-z])sig=([A-Za-z0-9%+/=_-]{20,})"),
    matching("aws-signature", "amz-s", r"(?i)x-amz-(?:signature|security-token)=([A-Za-z0-9%+/=_-]{20,})", named=True),
    matching("sendgrid-key", "SG.", r"SG\.[A-Za-z0-9_-]{16,64}\.[A-Za-z0-9_-]{16,}"),
    matching("vault-token", "hvs. hvb. hvr.", r"hv[sbr]\.[A-Za-z0-9_-]{20,}"),
    matching("service-token", "dop_v1_ doo_v1_ dor_v1_", r"do[por]_v1_[a-f0-9]{32,}"),
    matching("service-token", "hf_", r"hf_[A-Za-z0-9]{30,}"),
    matching("service-token", "dapi", r"dapi[a-f0-9]{32}"),
    matching("service-token", "dckr_pat_ dckr_oat_", r"dckr_[po]at_[A-Za-z0-9_-]{20,}"),
    matching("service-token", "shpat_ shpca_ shppa_ shpss_", r"shp(?:at|ca|pa|ss)_[a-fA-F0-9]{32}"),
    matching("service-token", "glsa_ glc_", r"gl(?:sa|c)_[A-Za-z0-9+/=_]{20,}"),
    matching("service-token", "gsk_", r"gsk_[A-Za-z0-9]{20,}"),
    matching("service-token", "xai- pplx-", r"(?:xai|pplx)-[A-Za-z0-9]{40,}"),
    matching("service-token", "AGE-SECRET-KEY-1", r"AGE-SECRET-KEY-1[0-9A-Z]{20,}"),
    matching("service-token", "lin_api_ ntn_", r"(?:lin_api|ntn)_[A-Za-z0-9]{20,}"),
    matching("service-token", "NRAK- HRKU-", r"(?:NRAK|HRKU)-[A-Za-z0-9_-]{20,}"),
    matching("service-token", "ATATT3", r"ATATT3[A-Za-z0-9_=-]{30,}"),
    matching("service-token", "sbp_ sntryu_ sntrys_", r"(?:sbp|sntry[us])_[A-Za-z0-9+/=_]{30,}"),
    matching("service-token", "dp.pt. dp.st. dp.ct. dp.sa.", r"dp\.(?:pt|st|ct|sa)\.[A-Za-z0-9.]{30,}"),
    matching("service-token", ".atlasv1.", r"\.atlasv1\.([A-Za-z0-9_=-]{40,})"),
    matching("telegram-token", ":AA", r"[0-9]{8,10}:AA[A-Za-z0-9_-]{30,}"),
    USERS,
    FLAGS,
    ASSIGNMENTS,
    ADDRESSES,
)
"""All of them."""
