"""Making an answer to a request for consent: whose key, where it lies, and whether the host would take the signature."""

from __future__ import annotations

import os
import pwd
import stat
import subprocess
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from remediation.cli import output
from remediation.core import consent
from remediation.errors import ApprovalRefused
from remediation.keys.ssh import (
    AllowedSigners,
    PublicKey,
    PublicKeyRefused,
    SignatureRefused,
    SigningFailed,
    SshSignature,
    private_key_in_reach,
    public_half,
    sign_with_ssh_keygen,
    verify,
)
from remediation.model.base import epoch_ms
from remediation.model.text import printable

if TYPE_CHECKING:
    from remediation.engine.approvals import Request
    from remediation.settings import Home, Settings

_LARGEST = 64 * 1024


@dataclass(frozen=True, slots=True)
class Signers:
    """Who may sign for one purpose on a host, and whether keys count that its own user could use."""

    file: Path
    listed: AllowedSigners
    allow_local: bool
    home: Home
    namespace: str = consent.NAMESPACE
    """The purpose: what the signature is made for."""
    elsewhere: tuple[str, str] = ("approvals show ID --document --as NAME > request", "approve ID --document request")
    """The commands that give what to sign, and that take the signature, for somebody who signs on another machine."""

    @classmethod
    def of(cls, home: Home, settings: Settings, **purpose: Any) -> Signers:
        """
        As `settings` name them; `purpose` are `namespace` and `elsewhere`, if it is another than consent to a plan.

        Raises:
            ApprovalRefused: nobody may consent.
            ConfigurationError: the file can't be used.

        """
        file = settings.approvals.allowed_signers
        if file is None:
            raise ApprovalRefused(
                "nobody may consent on this host: set [approvals] allowed_signers in remediation.toml to a file of people's keys"
            )
        return cls(file, AllowedSigners.load(file), settings.approvals.allow_local, home, **purpose)

    def principals(self) -> list[str]:
        """Who may consent, sorted."""
        return sorted({line.principal for line in self.listed.signers if self.namespace in line.namespaces})

    def owner_of(self, key: PublicKey, told: str) -> str:
        """
        Who consents with `key`; it must be `told`, if that is given.

        Raises:
            ApprovalRefused: the key is nobody's, not for consent, or another one's.

        """
        lines = self.listed.of_key(key)
        if not lines:
            who = told or "NAME"
            raise ApprovalRefused(
                f"nobody who may consent has the key {key.fingerprint}. If it is to count, whoever administers this host adds to "
                f'{self.file}:\n  {who} namespaces="{self.namespace}" {key.line}'
            )
        principal = lines[0].principal
        if not any(self.namespace in line.namespaces for line in lines):
            raise ApprovalRefused(f"the key of {principal} may not sign for {self.namespace}: add that to its line in {self.file}")
        if told and told != principal:
            raise ApprovalRefused(f"the key {key.fingerprint} is that of {principal}, not of {printable(told)}")
        return principal

    def known(self, told: str) -> str:
        """
        `told`, if they may consent.

        Raises:
            ApprovalRefused: they may not.

        """
        may = self.principals()
        if told not in may:
            shown = ", ".join(may) or "nobody"
            raise ApprovalRefused(f"{printable(told) or 'nobody'} may not consent on this host; {self.file} names {shown}")
        return told

    def refuse_in_reach(self, key: PublicKey, principal: str, file: Path | None) -> None:
        """
        Refuse a key that the host's own user could use.

        Args:
            file: Where the key was said to lie.

        Raises:
            ApprovalRefused: its private half lies where that user could read it.

        """
        if self.allow_local:
            return
        host = self.home.root.stat().st_uid
        near = private_key_in_reach(key, [file]) if file is not None else None
        if near is None and host == os.geteuid():
            near = private_key_in_reach(key)
        if near is None or not readable_by(host, near.path):
            return
        raise ApprovalRefused(
            f"the private key of {principal} lies in {near.path}, where the host's own user ({_name_of(host)}, owner of {self.home.root}) "
            "can read it: the host could consent to its own plans. Sign where the host can't:\n"
            f"  remediation {self.elsewhere[0].replace('NAME', principal)}\n"
            f"  ssh-keygen -Y sign -n {self.namespace} -f KEY request        (on a machine of your own)\n"
            f"  remediation {self.elsewhere[1]} --signature request.sig\n"
            "or use a key of a hardware token, or --agent with an agent that is forwarded from your machine. "
            "[approvals] allow_local = true in remediation.toml lifts this, for hosts that nobody else depends on"
        )


@dataclass(frozen=True, slots=True)
class Key:
    """A person's key: the file that ssh-keygen is given, and what is known of it."""

    file: Path
    public: PublicKey | None
    private: Path | None
    """Where the private half lies, if not in an agent."""


def key_in(file: Path) -> Key:
    """
    The key in a file that a person named.

    Raises:
        ApprovalRefused: there is none.

    """
    try:
        found = Path(os.path.abspath(file.expanduser()))
        if not stat.S_ISREG(found.stat().st_mode):
            raise ApprovalRefused(
                f"{printable(str(file))} is not a file; name the private key, or the .pub file of one in your agent"
            )
    except OSError as error:
        raise ApprovalRefused(f"the key {printable(str(file))} can't be read: {error.strerror}") from error
    return Key(found, public_half(found), found)


def key_in_agent(signers: Signers, told: str, folder: Path) -> Key:
    """
    The key in the agent that may consent, as a ``.pub`` file in `folder`.

    Raises:
        ApprovalRefused: there is none, or keys of several people.

    """
    try:
        done = subprocess.run(["ssh-add", "-L"], capture_output=True, text=True, errors="replace", check=False, timeout=30)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ApprovalRefused(f"the agent can't be asked: {error}") from error
    if done.returncode != 0:
        said = printable((done.stderr or done.stdout).strip())
        raise ApprovalRefused(f"the agent has no key to sign with: {said or 'ssh-add said nothing'}")
    found: dict[str, PublicKey] = {}
    for line in done.stdout.splitlines():
        try:
            key = PublicKey.of_line(line)
            found.setdefault(signers.owner_of(key, told), key)
        except (PublicKeyRefused, ApprovalRefused):
            continue  # a certificate, or a key for other things
    if len(found) != 1:
        several = f"keys of {' and '.join(sorted(found))}: name one with --as" if found else "no key of anybody who may consent"
        raise ApprovalRefused(f"the agent has {several} (ssh-add -L lists them; {signers.file} says who may)")
    (key,) = found.values()
    file = folder / "agent.pub"
    file.write_text(f"{key.line}\n", "ascii")
    return Key(file, key, None)


def signed(request: Request, origin: str, key: Key, approver: str) -> tuple[bytes, str]:
    """
    Consent to `request`: the document, and the signature of `key`.

    Raises:
        ApprovalRefused: no signature was made.

    """
    content = consent.document(origin, request.incident, request.approval, decision="approve", approver=approver)
    try:
        return content, sign_with_ssh_keygen(content, key.file, consent.NAMESPACE)
    except SigningFailed as error:
        raise ApprovalRefused(str(error)) from error


def read(file: Path, what: str) -> bytes:
    """
    The content of a small file that a person named.

    Raises:
        ApprovalRefused: it can't be read, or is no small file.

    """
    try:
        # Not blocking: a pipe that nobody writes to must not hang a command.
        with open(os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as opened:
            if not stat.S_ISREG(os.fstat(opened.fileno()).st_mode):
                raise ApprovalRefused(f"the {what} {printable(str(file))} is not a regular file")
            content = opened.read(_LARGEST + 1)
    except OSError as error:
        raise ApprovalRefused(f"the {what} {printable(str(file))} can't be read: {error.strerror}") from error
    if len(content) > _LARGEST:
        raise ApprovalRefused(f"{printable(str(file))} is too large to be a {what}")
    return content


def check(request: Request, origin: str, document: bytes, signature: str, signers: Signers) -> str:
    """
    Who consents to `request` with `document` and `signature`, as the host will judge it.

    Raises:
        ApprovalRefused: it does not count; the message says why.

    """
    now = datetime.now(UTC)
    decision, approver = consent.check(document, origin, request.incident, request.approval, now=epoch_ms(now))
    if decision != "approve":
        raise ApprovalRefused(
            f"the document is a refusal, signed or not: `remediation deny {request.approval.id}` needs no signature"
        )
    try:
        key = SshSignature.parse(signature).key
        principal = verify(document, signature, signers.listed, consent.NAMESPACE, now)
    except SignatureRefused as error:
        raise ApprovalRefused(f"the signature does not count: {error}") from error
    if principal != approver:
        raise ApprovalRefused(f"the document names {printable(approver)} as approver, but {principal} signed it")
    signers.refuse_in_reach(key, principal, None)
    return principal


def workplace() -> tempfile.TemporaryDirectory[str]:
    """A private folder for the public half of a key in the agent."""
    return tempfile.TemporaryDirectory(prefix="remediation-approve-")


def refuse_altered(genuine: bool, id_: str) -> None:
    """Nobody may be shown one plan and sign another."""
    if not genuine:
        output.fail(
            f"the plan that the journal holds for request {id_} is not the one that was asked about: nothing is to be signed; "
            "`remediation journal verify` says more",
            output.ExitCode.TAMPERING,
        )


def readable_by(uid: int, file: Path) -> bool:
    """Whether the user `uid` could read `file`, by its owner, group and mode and those of the folders above it."""
    if uid == 0:
        return True
    if uid == os.geteuid():
        return os.access(file, os.R_OK, effective_ids=os.access in os.supports_effective_ids)
    groups = _groups_of(uid)
    path = Path(os.path.realpath(file))
    try:
        return _may(uid, groups, path.stat(), 4) and all(_may(uid, groups, folder.stat(), 1) for folder in path.parents)
    except OSError:
        return True  # what can't be looked at is not known to be out of reach


def _may(uid: int, groups: set[int], found: os.stat_result, bit: int) -> bool:
    if found.st_uid == uid:
        return bool(found.st_mode & (bit << 6))
    return bool(found.st_mode & (bit << 3 if found.st_gid in groups else bit))


def _groups_of(uid: int) -> set[int]:
    try:
        user = pwd.getpwuid(uid)
    except KeyError:
        return set()
    return set(os.getgrouplist(user.pw_name, user.pw_gid))


def _name_of(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"
