"""
People's hand on the lifecycle of runbooks: promote, quarantine, release. Journaled with the key, also beside running hosts.

Each change is checked again inside the append, so that it is about the runbook as it is then. A host that runs knows it before its next
entry, and looks for it every two seconds.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import NoReturn

from remediation.core import promotion, releasing
from remediation.core.consent import NAMESPACE
from remediation.core.lifecycle import RunbookRecord
from remediation.core.state import HostState
from remediation.discovery import Plugins
from remediation.engine.registry import code_digest
from remediation.engine.signatures import Signatories
from remediation.errors import ApprovalRefused, GuardRefused, LifecycleRefused
from remediation.model.base import epoch_ms, milliseconds
from remediation.model.entries import (
    Entry,
    RunbookPromoted,
    RunbookQuarantined,
    RunbookRegistered,
    RunbookReleased,
)
from remediation.model.runbook import RunbookSpec
from remediation.model.text import SUMMARY_CAP, capped, printable, wellformed
from remediation.ports.clock import Clock
from remediation.ports.journal import Journal
from remediation.settings import Settings


@dataclass(frozen=True, slots=True)
class Installed:
    """A runbook as it is installed now, whether a host runs it or not."""

    spec: RunbookSpec
    code_digest: str
    plugin: str


def installed(plugins: Plugins, id_: str) -> Installed | None:
    """The runbook `id_` as `plugins` bring it; `None` if they don't. Programs that embed a host may bring others."""
    for kind, plugin in plugins.runbooks():
        spec = getattr(kind, "spec", None)
        if isinstance(spec, RunbookSpec) and spec.id == id_:
            return Installed(spec, code_digest(kind), plugin)
    return None


class Rules:
    """
    What may be done to the lifecycle of runbooks now. Reads only.

    Args:
        settings: Of the home.
        state: What its journal says.
        origin: The log's name.
        clock: The time.

    """

    def __init__(self, settings: Settings, state: HostState, origin: str, clock: Clock) -> None:
        self._settings = settings
        self._state = state
        self._origin = origin
        self._clock = clock

    def record(self, id_: str) -> RunbookRecord:
        """
        What the journal knows of a runbook.

        Raises:
            LifecycleRefused: nothing.

        """
        record = self._state.runbooks.get(id_)
        if record is None or not record.code_digest:
            raise LifecycleRefused(
                f"no runbook {printable(id_)!r} is known here; `remediation runbooks` lists them, and a host that starts registers its own"
            )
        return record

    def configured(self, id_: str) -> str | None:
        """The state that the configuration sets for a runbook; `None` if it sets none."""
        table = self._settings.runbook(id_)
        return table.state if "state" in table.model_fields_set else None

    def promotable(self, id_: str, found: Installed | None, digest: str = "") -> tuple[RunbookRecord, str]:
        """
        What is known of the runbook `id_`, and the digest of the code that would be promoted.

        Args:
            found: It, as it is installed now.
            digest: The code that is meant, if it is not installed here.

        Raises:
            LifecycleRefused: it can't be promoted, whatever speaks for it.

        """
        if found is None:
            record = self.record(id_)
            if digest != record.code_digest:
                raise LifecycleRefused(
                    f"the plugins of this home do not bring {id_}, so its code can't be looked at. If a program that embeds the host does, "
                    f"name the code that you mean: --code-digest {record.code_digest}"
                )
        else:
            if digest and digest != found.code_digest:
                raise LifecycleRefused(
                    f"the code of {id_} that is installed has the digest {found.code_digest}, not {printable(digest)}"
                )
            record = self._state.runbooks.get(id_) or RunbookRecord(id_)
            digest = found.code_digest
            if found.spec.deprecated:
                raise LifecycleRefused(f"{id_} is deprecated: {found.spec.deprecated}")
        why = promotion.forbidden(record, digest, self.configured(id_))
        if why:
            raise LifecycleRefused(why)
        return record, digest

    def releasable(self, id_: str) -> RunbookRecord:
        """
        A quarantined runbook that may be released.

        Raises:
            LifecycleRefused: it is none.

        """
        record = self.record(id_)
        if self.configured(id_) == "quarantined":
            raise LifecycleRefused(
                f'[runbooks."{id_}"] state = "quarantined" in remediation.toml would quarantine it again with the next start: '
                "take that line out first"
            )
        if record.state != "quarantined":
            raise LifecycleRefused(f"{id_} is {record.state}, not quarantined")
        return record

    def consent(self, id_: str, approver: str) -> bytes:
        """
        What `approver` has to sign, in the namespace ``remediation-approval``, to let `id_` out of this quarantine.

        Raises:
            LifecycleRefused: it is not quarantined, or can't be released.

        """
        record = self.releasable(id_)
        until = epoch_ms(self._clock.now()) + self._longest_ms
        return releasing.document(self._origin, record, not_after=until, approver=approver)

    def _releasing(self, id_: str, document: bytes, signature: str) -> str:
        """Who consented to the release; nobody, if that is not needed."""
        record = self.releasable(id_)
        if not essential(record):
            if document or signature:
                raise LifecycleRefused(f"{id_} is not essential: its release needs no signed consent; leave it out")
            return ""
        if not document or not signature:
            raise LifecycleRefused(
                f"{id_} is essential: its release needs two channels, this command and the signed consent of a person. "
                f"`remediation runbooks release {id_} --consent-of NAME > consent` makes what NAME signs with "
                f"`ssh-keygen -Y sign -n {NAMESPACE} -f KEY consent`; then give --document consent --signature consent.sig"
            )
        now = epoch_ms(self._clock.now())
        approver = releasing.check(document, self._origin, record, now=now, longest_ms=self._longest_ms)
        who = self._settings.approvals
        people = Signatories(self._clock, signers=who.allowed_signers, allow_local=who.allow_local)
        people.check(document, signature, approver, NAMESPACE)
        return approver

    @property
    def _longest_ms(self) -> int:
        return milliseconds(self._settings.approvals.expires)


class Governing(Rules):
    """
    Changes the lifecycle of runbooks.

    Args:
        settings, state, origin, clock: As for `Rules`.
        journal: Open for writing, and folded into `state`.

    """

    def __init__(self, settings: Settings, state: HostState, origin: str, clock: Clock, journal: Journal) -> None:
        super().__init__(settings, state, origin, clock)
        self._journal = journal

    async def promote(
        self, id_: str, found: Installed | None, *, by: str, reason: str, digest: str = "", blindly: bool = False
    ) -> int:
        """
        Let a runbook act, with exactly this code; returns the entry's position.

        Args:
            id_: The runbook's.
            found: It, as it is installed now. Code that no host has started with yet is registered first.
            by: Who says so.
            reason: Why.
            digest: See `promotable`.
            blindly: Also if nothing is known of what it would do.

        Raises:
            LifecycleRefused: it can't be promoted, or nothing speaks for it.
            JournalError: it may not be durable.

        """
        record, digest = self.promotable(id_, found, digest)
        if not promotion.evidence(record, digest):
            if not blindly:
                raise LifecycleRefused(promotion.without_evidence(id_))
            reason = f"{capped(wellformed(reason), SUMMARY_CAP - 32)} (without evidence)"
        entries: list[Entry] = []
        if found is not None and record.code_digest != digest:
            entries.append(RunbookRegistered.of(found.spec, digest, found.plugin))
        entries.append(RunbookPromoted(runbook=id_, code_digest=digest, by=by, reason=_text(reason)))
        return await self._append(id_, entries, by, lambda: self.promotable(id_, found, digest))

    async def quarantine(self, id_: str, *, by: str, reason: str) -> int:
        """
        End a runbook's right to act, at once; returns the entry's position.

        Raises:
            LifecycleRefused: nobody knows such a runbook, or it is quarantined already.
            JournalError: it may not be durable.

        """

        def check() -> None:
            record = self.record(id_)
            if record.state == "quarantined":
                raise LifecycleRefused(f"{id_} is quarantined already ({record.why})")

        check()
        return await self._append(id_, [RunbookQuarantined(runbook=id_, by=by, reason=_text(reason))], by, check)

    async def release(self, id_: str, *, by: str, reason: str, document: bytes = b"", signature: str = "") -> int:
        """
        End a quarantine: the runbook is `registered` again; returns the entry's position.

        Args:
            id_: The runbook's.
            by: Who says so.
            reason: Why.
            document: For an essential runbook: what a person signed, see `consent`.
            signature: Over `document`.

        Raises:
            LifecycleRefused: it is not quarantined, or a person's signed consent is missing.
            ApprovalRefused: the consent does not count.
            JournalError: it may not be durable.

        """
        approver = self._releasing(id_, document, signature)
        entry = RunbookReleased(
            runbook=id_,
            by=by,
            reason=_text(reason),
            approver=approver,
            document=document.decode() if approver else "",
            signature=signature,
        )
        return await self._append(id_, [entry], by, lambda: self._releasing(id_, document, signature))

    async def _append(self, id_: str, entries: list[Entry], by: str, check: Callable[[], object]) -> int:
        def guard() -> None:
            # The runbook as it is inside the append, whatever others journaled since.
            try:
                check()
            except (LifecycleRefused, ApprovalRefused) as error:
                raise GuardRefused(str(error)) from error

        try:
            position = await self._journal.append(f"runbook/{id_}", entries, guard=guard, actor=by)
        except GuardRefused as error:
            _refuse(error)
        return position.seq + len(entries) - 1


def essential(record: RunbookRecord) -> bool:
    """Whether the runbook's spec, as it was registered, says that it is essential. One that can't be read is taken to be."""
    try:
        told = json.loads(record.spec)
    except ValueError:
        return True
    return bool(told.get("essential")) if isinstance(told, dict) else True


def _refuse(error: GuardRefused) -> NoReturn:
    raise LifecycleRefused(str(error)) from error


def _text(reason: str) -> str:
    return capped(wellformed(reason), SUMMARY_CAP)
