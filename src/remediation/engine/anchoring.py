"""
Anchoring: gives the journal's newest signed head to each anchor at its pace, and looks whether what it keeps fits the journal.

A head is given only once ``head.note`` has it. An anchor that fails is tried again later and later, and told of once; it never stops
healing. One that contradicts the journal is not given anything, so that what it keeps is not lost.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import structlog

from remediation.engine.steps import describe_error
from remediation.errors import JournalDamaged, JournalError, JournalRolledBack, RemediationError
from remediation.journal import IntentJournal
from remediation.model.base import Severity, timestamp
from remediation.model.entries import JournalRecovered
from remediation.model.text import printable
from remediation.ports.anchor import Anchor
from remediation.ports.channel import Notice
from remediation.ports.clock import Clock
from remediation.proof.anchored import Anchored, Log, heads_of, judge_anchor
from remediation.proof.verdict import ProblemCode

START_SECONDS = 5.0
"""How long a start waits for anchors to be read."""
FAREWELL_SECONDS = 5.0
"""How long a stop waits for anchors to take the last head, before what they do is ended."""
TOLD_AFTER = 3
"""Failures in a row before people are told."""
RETRY_CAP = 600.0
"""Seconds between two tries of an anchor that fails, or its pace if that is more."""


class _Contradicted(Exception):
    """What an anchor keeps is not of this journal."""


@dataclass
class _Watched:
    anchor: Anchor
    read: bool = False
    """Whether what it keeps was compared with the journal since it last failed."""
    kept: int = -1
    kept_at: str = ""
    failures: int = 0
    failing: str = ""
    told: bool = False


class Anchoring:
    """The anchors of one host. `begin`, then `stop`; both are safe without any anchor."""

    def __init__(
        self,
        anchors: Sequence[Anchor],
        journal: IntentJournal,
        clock: Clock,
        tell: Callable[[Notice], None],
        record: Path,
    ) -> None:
        """
        Anchor `journal`.

        Args:
            tell: Sends a notice to people.
            record: A file for what was kept and what fails, for `doctor`: a cache.

        """
        self._anchors = [_Watched(anchor) for anchor in anchors]
        self._journal = journal
        self._clock = clock
        self._tell = tell
        self._record = record
        self._ending = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._log = structlog.get_logger("remediation.anchors")

    async def check(self) -> None:
        """
        Compare the journal with what the anchors keep, before anything is appended. Those that can't be read are looked at later.

        Raises:
            JournalRolledBack: an anchor keeps a later head that a key of this log signed.
            JournalDamaged: one keeps another history that a key of this log signed.

        """
        await asyncio.gather(*(self._check(watched) for watched in self._anchors))

    async def _check(self, watched: _Watched) -> None:
        try:
            async with asyncio.timeout(min(START_SECONDS, watched.anchor.timeout)):
                problems = await self._contradictions(watched.anchor)
        except Exception as error:
            self._log.warning("an anchor can't be read", anchor=watched.anchor.name, error=_in_words(error, watched.anchor))
            return
        name = printable(watched.anchor.name)
        for code, message in problems:
            if code is ProblemCode.BEHIND_ANCHOR:
                raise JournalRolledBack(
                    f"{message}. The anchor {name} was given it by a host of this journal: it was rolled back, and its head.note with "
                    "it. It is never continued; bring the newer files back, or start a new log with `remediation journal recover`"
                )
            if code is ProblemCode.ANCHOR:
                raise JournalDamaged(f"{message}. See `remediation journal verify`; a log with two histories is never continued")

    async def _contradictions(self, anchor: Anchor) -> list[tuple[ProblemCode, str]]:
        """What the newest head that `anchor` keeps says against the journal. All of its heads are for `journal verify`."""
        notes = await anchor.heads()
        problems: list[tuple[ProblemCode, str]] = []
        if not notes:
            return problems
        journal, origin = self._journal, self._journal.origin
        # Read after the anchor: what another process appended and anchored meanwhile is in it.
        size, _ = await journal.head()
        anchored = Anchored(anchor.name, tuple(notes))
        own = [(note, head) for note, head in heads_of(anchored) if head.origin == origin]
        predecessor = None
        roots: dict[int, bytes] = {}
        if own:
            note, head = max(own, key=lambda pair: pair[1].size)
            anchored = Anchored(anchor.name, (note,))
            if head.size <= size:
                roots[head.size] = await journal.root(head.size)
        else:
            async for record in journal.read(limit=1):
                predecessor = record.entry.old_head if isinstance(record.entry, JournalRecovered) else None
        log = Log(origin, size, roots, journal.keys, predecessor)
        judge_anchor(anchored, log, lambda code, message: problems.append((code, message)))
        return problems

    def begin(self) -> None:
        """Give heads to the anchors from now on."""
        self._tasks = [
            asyncio.create_task(self._keep_on(watched), name=f"anchor {watched.anchor.name}") for watched in self._anchors
        ]

    async def stop(self) -> None:
        """Give the last head to each anchor, for a bounded time, and end."""
        self._ending.set()
        if not self._tasks:
            return
        await asyncio.wait(self._tasks, timeout=FAREWELL_SECONDS)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for watched in self._anchors:
            if watched.kept < self._journal.size:
                self._log.error(
                    "the last entries are not anchored",
                    anchor=watched.anchor.name,
                    anchored=max(watched.kept, 0),
                    entries=self._journal.size,
                    error=watched.failing or "it did not take them in time",
                )
                self._say(watched, watched.failing or "it did not take the last head before the host stopped")
        self._note()

    async def _keep_on(self, watched: _Watched) -> None:
        while True:
            ending = self._ending.is_set()
            if watched.failures or watched.kept != self._journal.size:
                await self._keep(watched)
            if ending:
                return
            await self._pause(watched)

    async def _pause(self, watched: _Watched) -> None:
        every = watched.anchor.every
        seconds = min(2.0 ** min(watched.failures, 30), max(every, RETRY_CAP)) if watched.failures else every
        waiting = [asyncio.ensure_future(self._clock.sleep(seconds)), asyncio.ensure_future(self._ending.wait())]
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)

    async def _keep(self, watched: _Watched) -> None:
        anchor = watched.anchor
        try:
            size = self._journal.size
            note = await self._journal.publish()
        except (OSError, JournalError) as error:
            # Not the anchor's failure; the journal tells of its own.
            self._log.warning("no head may be anchored now", anchor=anchor.name, error=str(error))
            return
        try:
            async with asyncio.timeout(anchor.timeout):
                if not watched.read:
                    problems = await self._contradictions(anchor)
                    if problems:
                        raise _Contradicted(problems[0][1])
                    watched.read = True
                await anchor.keep(note)
        except Exception as error:
            watched.read = False
            watched.failures += 1
            watched.failing = _in_words(error, anchor)
            self._log.warning("an anchor failed", anchor=anchor.name, attempt=watched.failures, error=watched.failing)
            if watched.failures >= TOLD_AFTER or isinstance(error, _Contradicted):
                self._say(watched, watched.failing)
        else:
            watched.kept, watched.kept_at = size, timestamp(self._clock.now())
            watched.failures, watched.failing = 0, ""
            if watched.told:
                watched.told = False
                self._tell(self._notice(watched, "anchor_recovered", Severity.P3, f"heads are anchored again by {anchor.name}"))
        self._note()

    def _say(self, watched: _Watched, why: str) -> None:
        """Tell people, once until it works again."""
        if watched.told:
            return
        watched.told = True
        self._log.error("an anchor does not work", anchor=watched.anchor.name, error=why)
        title = f"signed heads are not anchored by {watched.anchor.name}: {why}"
        self._tell(self._notice(watched, "anchor_failed", Severity.P1, title))

    def _notice(self, watched: _Watched, kind: str, severity: Severity, title: str) -> Notice:
        name = printable(watched.anchor.name)
        return Notice(
            kind=kind, incident="", code="ANCHOR", subsystem="remediation", subject=name, severity=severity, title=printable(title)
        )

    def _note(self) -> None:
        """Write the record. It may be lost or wrong: what counts is what the anchors keep."""
        anchors = {
            watched.anchor.name: {
                "kept": max(watched.kept, 0),
                "kept_at": watched.kept_at or None,
                "failures": watched.failures,
                "failing": watched.failing or None,
            }
            for watched in self._anchors
        }
        unfinished = self._record.with_name(f".{self._record.name}.{os.getpid()}")
        with contextlib.suppress(OSError):
            unfinished.write_text(json.dumps({"format": "remediation-anchors/1", "anchors": anchors}), "utf-8")
            os.replace(unfinished, self._record)


def _in_words(error: Exception, anchor: Anchor) -> str:
    if isinstance(error, TimeoutError):
        return f"it did not answer within {anchor.timeout:g} s"
    if isinstance(error, _Contradicted | RemediationError):
        return printable(str(error))
    return printable(describe_error(error))
