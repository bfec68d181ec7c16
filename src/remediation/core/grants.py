"""
What a person signs to let a runbook do more than the profile allows: for a scope, and until a date.

The document is canonical JSON (see ``docs/specs/grants.md``), signed as an SSH signature in the namespace ``remediation-trust``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from remediation.core import signed
from remediation.core.lifecycle import RunbookRecord
from remediation.core.trust import RECORD
from remediation.errors import GrantRefused, NotCanonical
from remediation.model import canonical
from remediation.model.entries import TrustGranted
from remediation.model.runbook import Radius, Reversibility
from remediation.model.text import SUMMARY_CAP, capped, printable, wellformed

NAMESPACE = "remediation-trust"
VERSION = 1
LONGEST_MS = 90 * 24 * 3_600_000
"""A grant ends after 90 days at most: whoever gave it is to look again."""
SUBJECTS_CAP = 4096
_ID = re.compile(r"[0-9a-f]{16,64}")
_TEXTS = ("grant_id", "runbook", "code_digest", "subjects", "radius", "reversibility", "reason", "approver")


@dataclass(frozen=True, slots=True)
class Grant:
    """What is granted, to which runbook, until when (milliseconds since 1970 UTC), why, and by whom."""

    grant_id: str
    runbook: str
    code_digest: str
    subjects: str
    radius: str
    reversibility: str
    not_after: int
    reason: str
    approver: str

    @property
    def scope(self) -> str:
        """What it covers, for people."""
        return f"{self.reversibility} plans that reach the {self.radius} at most, for {self.subjects}"

    def document(self, origin: str) -> bytes:
        """
        The bytes to sign. `origin` is the log's name: the same grant in another log is another document.

        Raises:
            GrantRefused: a value can't stand in a signed document.

        """
        try:
            return canonical.dumps(
                {
                    "v": VERSION,
                    "origin": origin,
                    "decision": "grant",
                    "not_after": self.not_after,
                    **{name: getattr(self, name) for name in _TEXTS},
                }
            )
        except NotCanonical as error:
            raise GrantRefused(f"the grant can't be written down: {error}") from error

    def entry(self, document: bytes, signature: str) -> TrustGranted:
        """The entry that puts it in force."""
        return TrustGranted(
            grant_id=self.grant_id,
            runbook=self.runbook,
            scope=self.scope,
            by=self.approver,
            not_after=self.not_after,
            reason=self.reason,
            code_digest=self.code_digest,
            subjects=self.subjects,
            radius=Radius(self.radius),
            reversibility=Reversibility(self.reversibility),
            document=document.decode(),
            signature=signature,
        )


def read(content: bytes, origin: str) -> Grant:
    """
    The grant in a signed document. Neither the signature nor whether it may be given is checked here.

    Raises:
        GrantRefused: it is no grant, or not for this log.

    """
    told = signed.members(content, GrantRefused)
    texts = {name: told.get(name) for name in _TEXTS}
    not_after = told.get("not_after")
    if told.get("decision") != "grant" or type(not_after) is not int or not all(isinstance(text, str) for text in texts.values()):
        raise GrantRefused("the document is no grant: sign the bytes exactly as they were given")
    grant = Grant(not_after=not_after, **{name: str(text) for name, text in texts.items()})
    wrong = signed.differing(content, grant.document(origin))
    if wrong:
        raise GrantRefused(f"the document is not a grant for this log: it differs in {', '.join(wrong)}")
    return grant


def check(grant: Grant, record: RunbookRecord | None, *, now: int) -> None:
    """
    Whether `grant` may be given at `now` (milliseconds) to the runbook of `record`.

    Raises:
        GrantRefused: it may not; the message says why.

    """
    if record is None or not record.code_digest:
        raise GrantRefused(f"no runbook {printable(grant.runbook)!r} is known here; `remediation runbooks` lists them")
    if record.state in ("quarantined", "deprecated"):
        raise GrantRefused(f"{record.id} is {record.state} ({record.why}): it may not act, whatever is granted")
    if grant.code_digest != record.code_digest:
        raise GrantRefused(f"the grant is for other code of {record.id} than it has now; look at that code, and grant anew")
    if not _ID.fullmatch(grant.grant_id):
        raise GrantRefused("grant_id must be 16 to 64 of 0-9a-f, and new")
    _check_scope(grant)
    if grant.not_after <= now:
        raise GrantRefused("the grant has expired already: not_after is in the past")
    if grant.not_after - now > LONGEST_MS:
        raise GrantRefused("a grant ends after 90 days at most, so that somebody looks again; choose an earlier end")
    if not grant.reason.strip() or not grant.approver:
        raise GrantRefused("a grant says why it is given, and by whom")
    if grant.approver == RECORD:
        raise GrantRefused(
            f"nobody may grant trust under the name {RECORD!r}: it stands for what was earned; name that person otherwise"
        )
    if grant.reason != capped(wellformed(grant.reason), SUMMARY_CAP):
        raise GrantRefused(f"the reason can't be journaled as it is: write at most {SUMMARY_CAP} characters of plain text")


def _check_scope(grant: Grant) -> None:
    subjects = grant.subjects
    if not subjects or len(subjects) > SUBJECTS_CAP or subjects != wellformed(subjects):
        raise GrantRefused(f"subjects must be a glob of 1 to {SUBJECTS_CAP} characters, such as /srv/queue/* or *")
    if grant.radius == Radius.FLEET:
        raise GrantRefused("what reaches the whole fleet always asks a person, plan by plan; a grant can't change that")
    if grant.radius not in (Radius.PROCESS, Radius.MACHINE):
        raise GrantRefused(f"radius must be process or machine, not {printable(grant.radius)!r}")
    if grant.reversibility in (Reversibility.PARTIAL, Reversibility.IRREVERSIBLE):
        raise GrantRefused(
            f"what is {grant.reversibility} always asks a person, who sees what is lost, plan by plan; a grant can't change that"
        )
    if grant.reversibility not in (Reversibility.REVERSIBLE, Reversibility.DISPOSABLE):
        raise GrantRefused(f"reversibility must be reversible or disposable, not {printable(grant.reversibility)!r}")
