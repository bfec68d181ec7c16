"""
Tokens that are told by their form alone.

Forms are those that the issuers document (prefixes, alphabets, lengths; as GitHub's secret scanning and the gitleaks rules list
them), with lengths a little below what is issued today.
"""

from __future__ import annotations

import re

from remediation.model.redaction.rules import Rule, ending, matching

_DIGIT = re.compile(r"[0-9]")
_HEX = "0123456789abcdef"
_BASE64 = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
_UUID = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"


def _with_digit(match: re.Match[str]) -> bool:
    return _DIGIT.search(match.group()) is not None


def _no_name(match: re.Match[str]) -> bool:
    return _with_digit(match) or not match.group().islower()


def _service(signs: str, expression: str) -> Rule:
    """A service's token; what has small letters only is a name that begins alike."""
    return matching("service-token", signs, expression, accept=_no_name)


ISSUERS: tuple[Rule, ...] = (
    matching("aws-key", "AKIA ASIA ABIA ACCA", r"A(?:KI|SI|BI|CC)A[A-Z0-9]{16}"),
    matching("aws-key", "ABSK", r"ABSK[A-Za-z0-9+/=]{60,}"),
    matching("github-token", "ghp_ gho_ ghu_ ghs_ ghr_", r"gh[pousr]_[A-Za-z0-9]{20,}"),
    matching("github-token", "github_pat_", r"github_pat_[A-Za-z0-9_]{22,}"),
    matching(
        "gitlab-token",
        "glpat- gldt- glrt- glptt- glft- glffct- glimt- glagent- glsoat- glcbt- gloas-",
        r"gl(?:pat|dt|rt|ptt|ft|ffct|imt|agent|soat|cbt|oas)-[A-Za-z0-9_=.-]{16,}",
    ),
    matching("gitlab-token", "GR1348941", r"GR1348941[A-Za-z0-9_-]{16,}"),
    matching(
        "slack-token", "xoxa- xoxb- xoxc- xoxd- xoxe- xoxo- xoxp- xoxr- xoxs-", r"xox[a-eoprs](?:\.xox[bp])?-[A-Za-z0-9%-]{10,}"
    ),
    matching("slack-token", "xapp-", r"xapp-[0-9]-[A-Za-z0-9-]{10,}"),
    matching("slack-webhook", "hooks.slack.com/", r"hooks\.slack\.com/(?:services|workflows|triggers)/([A-Za-z0-9/_+-]{16,})"),
    matching("discord-webhook", "/api/webhooks/", r"/api/webhooks/[0-9]{5,24}/([A-Za-z0-9_-]{20,})"),
    matching("stripe-key", "sk_live_ sk_test_ rk_live_ rk_test_ sk_org_", r"[sr]k_(?:org_)?(?:live|test)_[A-Za-z0-9]{10,}"),
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
    matching("google-key", "1//0", r"(?<![A-Za-z0-9])1//0[A-Za-z0-9_-]{40,}"),
    matching("npm-token", "npm_", r"npm_[A-Za-z0-9]{30,}"),
    matching("pypi-token", "pypi-", r"pypi-[A-Za-z0-9_-]{32,}"),
    # RFC 7519: the header is a JSON object, so that its base64url begins so; also cut off, or encrypted (RFC 7516).
    matching("jwt", "eyJ", r"eyJ[A-Za-z0-9_-]{14,}(?:\.[A-Za-z0-9_-]{0,65536}){0,4}"),
    matching("azure-secret", "8Q~ 7Q~", r"[A-Za-z0-9_~.-]{3}[78]Q~[A-Za-z0-9_~.-]{31,}"),
    # The keys of Azure's services hold a mark of 4 characters near their end, and a checksum behind it.
    ending(
        "azure-key",
        "AIoT +ASt +ASb +AEh +ARm +ABa +ACR ACDb AzFu AzSe AZDO",
        r"(?:AIoT|\+A(?:St|Sb|Eh|Rm|Ba|CR)|ACDb|AzFu|AzSe|AZDO)[A-Za-z0-9+/]{4,13}={0,2}",
        alphabet=_BASE64,
        least=33,
        most=86,
    ),
    matching("azure-signature", "sig=", r"(?<![A-Za-z])sig=([A-Za-z0-9%+/=_-]{20,})"),
    matching(
        "aws-signature", "x-amz-s x-goog-s", r"(?i)x-(?:amz|goog)-(?:signature|security-token)=([A-Za-z0-9%+/=_-]{20,})", named=True
    ),
    matching("sendgrid-key", "SG.", r"SG\.[A-Za-z0-9_-]{16,64}\.[A-Za-z0-9_-]{16,}"),
    matching("vault-token", "hvs. hvb. hvr.", r"hv[sbr]\.[A-Za-z0-9_-]{20,}"),
    matching("telegram-token", ":AA", r"[0-9]{8,10}:AA[A-Za-z0-9_-]{30,}"),
)
"""Those of large issuers, each with a class of its own."""

SERVICES: tuple[Rule, ...] = (
    _service("dop_v1_ doo_v1_ dor_v1_", r"do[por]_v1_[a-f0-9]{32,}"),
    _service("hf_", r"hf_[A-Za-z0-9]{30,}"),
    _service("api_org_", r"api_org_[A-Za-z0-9]{30,}"),
    _service("dapi", r"dapi[a-f0-9]{32}"),
    _service("dckr_pat_ dckr_oat_", r"dckr_[po]at_[A-Za-z0-9_-]{20,}"),
    _service("shpat_ shpca_ shppa_ shpss_", r"shp(?:at|ca|pa|ss)_[a-fA-F0-9]{32}"),
    _service("glsa_ glc_", r"gl(?:sa|c)_[A-Za-z0-9+/=_]{20,}"),
    _service("gsk_", r"gsk_[A-Za-z0-9]{20,}"),
    _service("xai- pplx- csk- tvly- nvapi-", r"(?:xai|pplx|csk|tvly(?:-dev|-prod)?|nvapi)-[A-Za-z0-9_-]{30,}"),
    _service("AGE-SECRET-KEY-", r"(?i)AGE-SECRET-KEY-(?:PQ-)?1[0-9A-Z]{20,}"),
    _service("lin_api_ ntn_", r"(?:lin_api|ntn)_[A-Za-z0-9]{20,}"),
    _service("NRAK- NRII- NRSP- NRBR- NRAA- HRKU-", r"(?:NR(?:AK|II|SP|BR|AA)|HRKU)-[A-Za-z0-9_-]{20,}"),
    _service("ATATT3 ATCTT3 ATBB", r"AT(?:[AC]TT3|BB)[A-Za-z0-9_=-]{28,}"),
    _service("sbp_ sntryu_ sntrys_", r"(?:sbp|sntry[us])_[A-Za-z0-9+/=_]{30,}"),
    _service("dp.pt. dp.st. dp.ct. dp.sa.", r"dp\.(?:pt|st|ct|sa)\.[A-Za-z0-9.]{30,}"),
    _service(".atlasv1.", r"\.atlasv1\.([A-Za-z0-9_=-]{40,})"),
    # Identifiers of keys, which tell whose account it is; masked as those of AWS are.
    _service("LTAI AKID", r"(?<![A-Za-z0-9+/])(?:LTAI[A-Za-z0-9]{12,30}|AKID[A-Za-z0-9]{32})(?![A-Za-z0-9+/])"),
    _service("AQVN", r"AQVN[A-Za-z0-9_-]{35,}"),
    _service("y0_ t1.", r"(?<![A-Za-z0-9])(?:y[0-3]_[A-Za-z0-9_-]{50,}|t1\.[A-Za-z0-9_-]{30,}={0,2}\.[A-Za-z0-9_-]{80,}={0,2})"),
    _service("SK", r"(?<![A-Za-z0-9])SK[0-9a-f]{32}(?![A-Za-z0-9])"),
    _service("key-", r"(?<![A-Za-z0-9])key-[0-9a-f]{32}(?![A-Za-z0-9-])"),
    ending("service-token", "-us", r"-us[0-9]{1,2}(?![A-Za-z0-9])", alphabet=_HEX, least=32, most=32),
    _service("EAA", r"(?<![A-Za-z0-9+/])EAA[A-Za-z0-9]{56,}"),
    _service("sq0atp- sq0csp- sq0idp- sq0idb-", r"sq0[a-z]{3}-[A-Za-z0-9_-]{22,}"),
    _service("rubygems_", r"rubygems_[a-f0-9]{40,}"),
    _service("pul- bkua_ squ_ sqp_ sqa_", r"(?<![A-Za-z0-9])(?:pul-|bkua_|sq[upa]_)[a-f0-9]{36,}"),
    _service("pscale_", r"pscale_(?:tkn|pw|oauth)_[A-Za-z0-9_.=-]{30,}"),
    _service("PMAK- CFPAT- CCIPAT_ CLOJARS_", r"(?:PMAK-|CFPAT-|CCIPAT_|CLOJARS_)[A-Za-z0-9_-]{40,}"),
    _service("figd_ figo_ nfp_ tfp_ pnu_ rnd_", r"(?<![A-Za-z0-9_])(?:fig[do]|nfp|tfp|pnu|rnd)_[A-Za-z0-9_-]{28,}"),
    _service("napi_ rdme_ phx_ pcsk_ essu_", r"(?<![A-Za-z0-9])(?:napi|rdme|phx|pcsk|essu)_[A-Za-z0-9_=-]{36,}"),
    _service("sb_secret_ lsv2_", r"(?:sb_secret|lsv2_(?:pt|sk))_[A-Za-z0-9_-]{28,}"),
    _service("fo1_ fm2_ fm1r_ fm1a_", r"(?<![A-Za-z0-9])(?:fo1|fm2|fm1[ra])_[A-Za-z0-9+/=_-]{40,}"),
    _service("tskey-", r"tskey-(?:auth|api|client|scim|webhook)-[A-Za-z0-9-]{16,}"),
    _service("v1.0-", r"v1\.0-[0-9a-f]{24}-[0-9a-f]{100,}"),
    _service("r8_ fw_ re_", r"(?<![A-Za-z0-9_])(?:r8_[A-Za-z0-9]{37}|fw_[A-Za-z0-9]{22,}|re_[A-Za-z0-9]{8}_[A-Za-z0-9]{20,})"),
    _service("sk_", r"(?<![A-Za-z0-9])sk_[a-f0-9]{40,}"),
    _service("live_", r"(?<![A-Za-z0-9])(?:shippo_|duffel_)?live_[A-Za-z0-9_-]{35,}"),
    _service("o_test_ l_test_", r"(?:shippo|duffel)_test_[A-Za-z0-9_-]{35,}"),
    _service("secret_", r"(?<![A-Za-z0-9])secret_[A-Za-z0-9]{43}(?![A-Za-z0-9])"),
    _service("access_token$", r"access_token\$(?:production|sandbox)\$[0-9a-z]{8,32}\$[0-9a-f]{32}"),
    _service("xkeysib- xsmtpsib-", r"x(?:key|smtp)sib-[0-9a-f]{40,}-[A-Za-z0-9]{8,}"),
    _service("mlsn.", r"mlsn\.[0-9a-f]{40,}"),
    _service("dt0c01. dt0s01. dt0s02. dt0s16. dt0s08. dt0s04.", r"dt0[cs][0-9]{2}\.[A-Z0-9]{8,24}\.[A-Z0-9]{40,}"),
    _service("fio-u- ico- tk-us-", r"(?<![A-Za-z0-9])(?:fio-u|ico|tk-us)-[A-Za-z0-9_-]{32,}"),
    _service("FLWSECK", r"FLWSECK(?:_TEST)?-[A-Za-z0-9]{12,}"),
    _service("EZAK", r"EZAK[A-Za-z0-9]{50,}"),
    _service("AKCp", r"AKCp[A-Za-z0-9]{60,}"),
    _service("cmVmdGtu", r"cmVmdGtu[A-Za-z0-9+/=]{40,}"),
    _service("API-", r"(?<![A-Za-z0-9])API-[A-Z0-9]{25,}"),
    _service("pat-na pat-eu", rf"pat-(?:na|eu)[0-9]-{_UUID}"),
    _service("sdk- access-", rf"(?<![A-Za-z0-9])(?:sdk|access-(?:production|sandbox|development))-{_UUID}"),
    _service("SSWS", r"SSWS[ \t]{1,8}([A-Za-z0-9_-]{30,})"),
    _service("A3-", r"(?<![A-Za-z0-9])A3-[A-Z0-9]{6}-(?:[A-Z0-9]{11}|[A-Z0-9]{6}-[A-Z0-9]{5})(?:-[A-Z0-9]{5}){3}"),
    _service("/IncomingWebhook/ zapier.com/", r"(?:/IncomingWebhook|hooks\.zapier\.com/hooks/catch)/([A-Za-z0-9/_-]{12,})"),
)
"""Those of others."""
