"""
Who may sign: OpenSSH's file of allowed signers (ssh-keygen(1), "ALLOWED SIGNERS"), read more strictly than OpenSSH does.

Each line is ``principal namespaces="…"[,valid-after="…"][,valid-before="…"] type base64 [comment]``. Refused, with the line's number:
patterns in principals and namespaces, lines without namespaces, certificate authorities, several principals in a line, one key for two
principals, times without ``Z`` (they would mean something else on each machine), and options that are not known. A file that is
accepted here means the same to ``ssh-keygen -Y verify``.
"""

from __future__ import annotations

import os
import re
import stat
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from remediation.errors import ConfigurationError
from remediation.keys.ssh.publickeys import PublicKey, PublicKeyRefused
from remediation.model.text import printable

_LARGEST: Final = 1024 * 1024
_NAME: Final = re.compile(r"[!-~]{1,255}")
_OPTION: Final = re.compile(r'(?P<name>[A-Za-z-]+)(?:="(?P<value>[^"\\]*)")?(?:,|$)')
_PATTERN_CHARACTERS: Final = "*?!"
_TIMES: Final = {9: "%Y%m%dZ", 13: "%Y%m%d%H%MZ", 15: "%Y%m%d%H%M%SZ"}


class AllowedSignersRefused(ConfigurationError):
    """A file of allowed signers can't be used: the message names file, line and reason."""


@dataclass(frozen=True, slots=True)
class AllowedSigner:
    """One line: a person, a key, what for, and when."""

    principal: str
    key: PublicKey
    namespaces: tuple[str, ...]
    valid_after: datetime | None = None
    """Inclusive; UTC."""
    valid_before: datetime | None = None
    """Inclusive, as OpenSSH has it; UTC."""

    def __str__(self) -> str:
        """The line in normal form, without comment."""
        options = [f'namespaces="{",".join(self.namespaces)}"']
        options += [
            f'{name}="{moment.astimezone(UTC):%Y%m%d%H%M%SZ}"'
            for name, moment in (("valid-after", self.valid_after), ("valid-before", self.valid_before))
            if moment is not None
        ]
        return f"{self.principal} {','.join(options)} {self.key.line}"


@dataclass(frozen=True, slots=True)
class AllowedSigners:
    """The people whose signatures count."""

    signers: tuple[AllowedSigner, ...] = ()

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> AllowedSigners:
        """
        The file at `path`.

        Raises:
            AllowedSignersRefused: it can't be read, others than its owner may write it, or a line is refused.

        """
        name = printable(os.fspath(path))
        try:
            # Not blocking: a pipe at this place must not hold up a host.
            with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
                found = os.fstat(file.fileno())
                if not stat.S_ISREG(found.st_mode):
                    raise AllowedSignersRefused(f"{name} is not a regular file")
                if found.st_mode & 0o022:
                    raise AllowedSignersRefused(
                        f"{name} can be written by others (mode {stat.S_IMODE(found.st_mode):04o}): whoever can add a line can approve; "
                        f"look at its lines, then `chmod go-w {name}`"
                    )
                content = file.read(_LARGEST + 1)
            if len(content) > _LARGEST:
                raise AllowedSignersRefused(f"{name} is too large to be a file of allowed signers")
            text = content.decode("utf-8")
        except OSError as error:
            raise AllowedSignersRefused(
                f"the allowed signers {name} can't be read: {error.strerror}; see [approvals] allowed_signers in remediation.toml"
            ) from error
        except UnicodeDecodeError:
            raise AllowedSignersRefused(f"{name} is not UTF-8 text") from None
        return cls.parse(text, name)

    @classmethod
    def parse(cls, text: str, source: str = "allowed signers") -> AllowedSigners:
        """
        The lines of `text`; `source` names them in errors.

        Raises:
            AllowedSignersRefused: a line is refused.

        """
        signers: list[AllowedSigner] = []
        owners: dict[PublicKey, tuple[str, int]] = {}
        for number, line in enumerate(text.replace("\r\n", "\n").split("\n"), 1):
            words = line.strip(" \t")
            if not words or words.startswith("#"):
                continue
            try:
                signer = _parsed(words)
                owner, first = owners.setdefault(signer.key, (signer.principal, number))
                if owner != signer.principal:
                    raise AllowedSignersRefused(
                        f"the key of {owner!r} (line {first}) can't be that of {signer.principal!r} too: one person, one name; "
                        "a second person needs a key of their own"
                    )
            except (AllowedSignersRefused, PublicKeyRefused) as error:
                raise AllowedSignersRefused(f"{source}, line {number}: {error}") from None
            signers.append(signer)
        return cls(tuple(signers))

    def of_key(self, key: PublicKey) -> tuple[AllowedSigner, ...]:
        """The lines for `key`: all of one principal."""
        return tuple(signer for signer in self.signers if signer.key == key)

    def __str__(self) -> str:
        """The file in normal form: sorted, one line each, without comments."""
        return "".join(f"{line}\n" for line in sorted({str(signer) for signer in self.signers}))


def _parsed(line: str) -> AllowedSigner:
    principal, _, rest = line.partition(" ")
    if "\t" in principal:
        principal, _, rest = line.partition("\t")
    _check_principal(principal)
    options, key = _split(rest.strip(" \t"))
    if not options:
        raise AllowedSignersRefused('namespaces="…" is missing before the key: say what the key may sign for')
    read = _options(options)
    if not read.get("namespaces"):
        raise AllowedSignersRefused('the option namespaces="…" is missing: say what the key may sign for')
    namespaces = tuple(dict.fromkeys(read["namespaces"].split(",")))
    for namespace in namespaces:
        if not _NAME.fullmatch(namespace) or any(character in namespace for character in _PATTERN_CHARACTERS):
            raise AllowedSignersRefused(
                f"the namespace {printable(namespace)!r} is empty or a pattern; name each namespace in full, such as remediation-approval"
            )
    after, before = (_moment(name, read[name]) if name in read else None for name in ("valid-after", "valid-before"))
    if after is not None and before is not None and after >= before:
        raise AllowedSignersRefused("valid-before must be later than valid-after")
    return AllowedSigner(principal, PublicKey.of_line(key), namespaces, after, before)


def _check_principal(principal: str) -> None:
    shown = printable(principal[:255])
    if "," in principal:
        raise AllowedSignersRefused(f"{shown!r} names several principals: write one line, with a key of their own, for each person")
    if any(character in principal for character in _PATTERN_CHARACTERS):
        raise AllowedSignersRefused(f"the principal {shown!r} is a pattern; name the one person in full, such as ana@example.com")
    if not _NAME.fullmatch(principal) or '"' in principal or "\\" in principal:
        raise AllowedSignersRefused(
            f"the principal {shown!r} must be 1-255 printable ASCII characters without quotes or backslashes"
        )


def _split(rest: str) -> tuple[str, str]:
    """Options (empty if there are none) and the key: a blank inside quotes does not end the options."""
    quoted = False
    for index, character in enumerate(rest):
        if character == '"':
            quoted = not quoted
        elif character in " \t" and not quoted:
            first, second = rest[:index], rest[index:].strip(" \t")
            return ("", rest) if "=" not in first and _looks_like_key(first) else (first, second)
    raise AllowedSignersRefused("it must be: a principal, options, a key's type and its base64")


def _looks_like_key(word: str) -> bool:
    return word.startswith(("ssh-", "ecdsa-", "sk-"))


def _options(text: str) -> dict[str, str]:
    found: dict[str, str] = {}
    at = 0
    while at < len(text):
        match = _OPTION.match(text, at)
        if match is None:
            raise AllowedSignersRefused(f'the options {printable(text)!r} can\'t be read: write name="value", separated by commas')
        name, value = match["name"].lower(), match["value"]
        if name == "cert-authority":
            raise AllowedSignersRefused("certificate authorities are not accepted: list the key of each person")
        if name not in ("namespaces", "valid-after", "valid-before"):
            raise AllowedSignersRefused(f"the option {name!r} is not known; known are namespaces, valid-after and valid-before")
        if value is None or name in found:
            raise AllowedSignersRefused(f'the option {name} must stand once, with a value: {name}="…"')
        found[name] = value
        at = match.end()
    if text.endswith(","):
        raise AllowedSignersRefused("the options end with a comma")
    return found


def _moment(name: str, text: str) -> datetime:
    form = _TIMES.get(len(text))
    if not text.endswith("Z") or form is None or not text[:-1].isdecimal() or not text.isascii():
        raise AllowedSignersRefused(
            f"{name}={printable(text)!r} must be YYYYMMDDZ, YYYYMMDDHHMMZ or YYYYMMDDHHMMSSZ; without Z it would go by the time zone "
            "of whichever machine reads it"
        )
    try:
        return datetime.strptime(text, form).replace(tzinfo=UTC)
    except ValueError:
        raise AllowedSignersRefused(f"{name}={printable(text)!r} is no time of the calendar") from None
