"""
Passwords on command lines, by the tools that take them there: ``mysql -p…``, ``sshpass -p …``, ``curl -u user:…``.

An option means a password only behind its tool, on the same line and in the same command: ``mkdir -p dir`` and ``ssh -p 22`` stay.
"""

from __future__ import annotations

import bisect
import re
from collections.abc import Iterator, Sequence

from remediation.model.redaction.assignments import is_value
from remediation.model.redaction.rules import MASKS, Rule, masked

_NEXT = "\x1f"
"""Stands between the arguments of a list."""
_GAP = rf"(?:[ \t]{{1,8}}|{_NEXT}|\\?[\"'],[ \t]{{0,4}}\\?[\"'])"
_BEFORE = rf"(?<=[ \t\"'{_NEXT}])"
_VALUE = rf"(?:\\?\"(?P<double>[^\"\r\n{_NEXT}]+)|\\?'(?P<single>[^'\r\n{_NEXT}]+)|(?P<bare>[^\s\"'{_NEXT}][^\s\"'`{_NEXT}]*))"


def _option(options: str, *, apart: bool = True, attached: bool = False, before: str = "") -> re.Pattern[str]:
    """What follows one of `options`: apart from it, attached to it; behind what `before` matches."""
    gap = "|".join([*([_GAP] if apart else []), *([""] if attached else [])])
    return re.compile(rf"{_BEFORE}(?:{options})(?:{gap}){before}(?!-){_VALUE}")


_USER = rf"[\"']?[^\s:%,\"'/{_NEXT}]{{1,128}}"
_TOOLS: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("sshpass", _option("-p", attached=True)),
    (
        r"mysql(?:dump|admin|import|check|show|slap|binlog|pump|sh)?|mariadb(?:-[a-z]{2,16})?|mytop|xtrabackup",
        _option("-p", apart=False, attached=True),
    ),
    ("curl", _option("-[a-zA-Z]{0,8}u|-U|--user|--proxy-user", attached=True, before=rf"{_USER}:")),
    ("redis-cli|keydb-cli|valkey-cli", _option("-a|--pass")),
    (
        "(?:docker|podman|nerdctl|buildah|skopeo|helm|oras|crane|registry|az|oc|cf|argocd|ibmcloud) (?:[a-z]{1,16} )?login",
        _option("-p", attached=False),
    ),
    ("openssl", _option("-k|-K|-pass(?:in|out)?", before="(?:pass:)?(?!file:|env:|fd:|stdin)")),
    ("7z[arz]?|rar|unrar", _option("-h?p", apart=False, attached=True)),
    ("zip|unzip|zipcloak|sqlcmd|bcp|osql|ipmitool|fcrackzip", _option("-P", attached=True)),
    ("ldap(?:search|modify|add|delete|whoami|compare|modrdn)", _option("-w")),
    ("ldappasswd", _option("-w|-s|-a")),
    ("aws", re.compile(rf"configure{_GAP}set{_GAP}[\w.-]{{0,64}}(?:secret|token)[\w.-]{{0,64}}{_GAP}{_VALUE}")),
    ("mongo(?:sh|dump|restore|export|import|stat|top|files)?|cqlsh|rdesktop|psexec|influx|couchbase-cli", _option("-p")),
    ("smbclient|rpcclient|smbget|smbmap|winexe", _option("-U|--user", attached=True, before=rf"=?{_USER}%")),
    ("lftp|ncftp", _option("-u", before=rf"{_USER},")),
    ("keytool|jarsigner|apksigner", _option("-(?:store|key|srcstore|deststore|srckey|destkey|new)pass")),
    ("plink|pscp|psftp|putty|kitty", _option("-pw")),
    ("ssh-keygen", _option("-N|-P")),
    ("snmp(?:walk|get|set|bulkwalk|getnext|table|trap)", _option("-A|-X")),
    ("x?freerdp[23]?|xfreerdp|wlfreerdp", re.compile(rf"{_BEFORE}/p:(?!-){_VALUE}")),
    (
        "htpasswd",
        re.compile(
            rf"{_BEFORE}-[a-zA-Z]{{0,8}}b[a-zA-Z]{{0,8}}(?:{_GAP}-[A-Za-z0-9]{{1,8}}){{0,4}}{_GAP}[^\s{_NEXT}]{{1,256}}{_GAP}[^\s{_NEXT}]{{1,128}}{_GAP}{_VALUE}"
        ),
    ),
    ("rabbitmqctl", re.compile(rf"(?:add_user|change_password|authenticate_user){_GAP}[^\s{_NEXT}]{{1,128}}{_GAP}{_VALUE}")),
)
_TOOL = re.compile(
    r"(?<![\w.-])(?:"
    + "|".join(f"(?P<t{number}>{tool.replace(' ', '(?:' + _GAP + ')')})" for number, (tool, _) in enumerate(_TOOLS))
    + rf")(?:\.exe)?(?={_GAP})"
)
_PARTS = """
sshpass mysql mariadb mytop xtrabackup curl redis-cli keydb-cli valkey-cli login openssl 7z rar zip sqlcmd bcp osql ipmitool ldap mongo
cqlsh rdesktop psexec influx couchbase-cli smb rpcclient winexe ftp keytool signer plink pscp putty kitty ssh-keygen snmp freerdp htpasswd
rabbitmqctl aws
"""
_WORDS = tuple(_PARTS.split())
"""One of which is in the name of each tool: looked for first, as options are in many texts."""
_COMMAND = re.compile(r"(?:[^\r\n;|&]|;(?![ \t])|(?<![ \t])[|&]|[|&](?![ \t|&]))+")
"""One command of a line, up to a ``;``, ``|`` or ``&`` that stands free."""
_KINDS = ("double", "single", "bare")
_OPTION_LETTERS = "pPhuUakKwsNAXndbcB"
_SIGNS = tuple(f"{before}-{letter}" for before in (" ", "'", '"') for letter in _OPTION_LETTERS)


def _found(command: str) -> Iterator[tuple[int, int]]:
    """Where passwords stand in a command."""
    tools: dict[str | None, int] = {}
    for match in _TOOL.finditer(command):
        tools.setdefault(match.lastgroup, match.end())
    for name, begin in tools.items():
        options = _TOOLS[int((name or "t0")[1:])][1]
        for match in options.finditer(command, begin):
            kind = next(kind for kind in _KINDS if match[kind] is not None)
            if is_value(match[kind]) and not MASKS.fullmatch(match[kind].rstrip(".,:;)")):
                yield match.span(kind)


def _commands(text: str) -> str:
    if not any(map(text.__contains__, _WORDS)) or _TOOL.search(text) is None:
        return text
    parts: list[str] = []
    at = 0
    for command in _COMMAND.finditer(text):
        for begin, end in sorted(_found(command.group())):
            if (start := command.start() + begin) >= at:
                parts += (text[at:start], masked("password"))
                at = command.start() + end
    return "".join([*parts, text[at:]]) if parts else text


COMMANDS = Rule("command", (*_SIGNS, "--user", "--proxy-user", "--pass", "/p:", "add_user", "change_password", "aws_s"), _commands)


def arguments(argv: Sequence[object]) -> dict[int, int]:
    """
    Of a list of arguments, those that hold a password, each with the place where it begins.

    Not those that hold the whole command, as of ``sh -c``: these are texts, and masked as such.
    """
    if not argv or not all(isinstance(item, str) for item in argv):
        return {}
    texts = [str(item).replace(_NEXT, " ") for item in argv]
    joined = _NEXT.join(texts) + _NEXT
    if _TOOL.search(joined) is None:
        return {}
    result: dict[int, int] = {}
    starts = [0]
    for text in texts:
        starts.append(starts[-1] + len(text) + 1)
    for begin, _ in _found(joined):
        number = bisect.bisect_right(starts, begin) - 1
        if _TOOL.search(texts[number]) is None:
            result.setdefault(number, begin - starts[number])
    return result
