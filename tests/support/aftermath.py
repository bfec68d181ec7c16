"""What must be true of a home once every host that was killed in it has had a successor."""

import asyncio
import traceback
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from remediation.bootstrap import open_reader
from remediation.core.incident import Incident
from remediation.core.state import HostState
from remediation.model.entries import ApprovalExpired, ApprovalGranted, ApprovalRequested, AttemptPlanned, IncidentSettled, Record
from remediation.settings import Home
from remediation.stores.auditing import verify_journal

CAP = 3
"""Attempts per incident."""


def records_of(home: Home) -> list[Record]:
    """All entries."""

    async def read() -> list[Record]:
        async with open_reader(home) as reader:
            return [record async for record in reader.read()]

    return asyncio.run(read())


def folded(records: Iterable[Record]) -> HostState:
    """All incidents and limits, as the entries tell them."""
    state = HostState(keep_settled=None)
    for record in records:
        state.apply(record)
    return state


def incidents_of(home: Home) -> list[Incident]:
    """All incidents, the oldest first."""
    return sorted(folded(records_of(home)).incidents.values(), key=lambda incident: incident.opened_seq)


def everything_ended(incidents: Iterable[Incident], told: Iterable[str]) -> None:
    """Raise AssertionError if an acknowledged report is lost, an incident open, or a limit of attempts passed."""
    known = {incident.id: incident for incident in incidents}
    assert known
    assert not [incident for incident in known.values() if incident.open]
    assert set(told) <= set(known), f"acknowledged, and lost: {set(told) - set(known)}"
    assert all(incident.acted <= CAP for incident in known.values())


def settled_once(records: Iterable[Record]) -> None:
    """Raise AssertionError if an incident was settled again without having been reopened: nobody here does that."""
    settled = Counter(record.head.stream for record in records if isinstance(record.entry, IncidentSettled))
    assert set(settled.values()) <= {1}, settled


def consent_was_used_once_and_for_its_plan(records: Iterable[Record], *, always_asked: bool) -> int:
    """
    Raise AssertionError if a plan acted on a consent that was not given for it, or on one that was used already.

    Args:
        always_asked: Whether on this host no plan may act without consent.

    Returns:
        How many consents were used.

    """
    asked: dict[str, ApprovalRequested] = {}
    granted: dict[tuple[str, str], str] = {}
    answered: set[str] = set()
    used = 0
    for record in records:
        match record.entry:
            case ApprovalRequested() as request:
                assert request.approval_id not in asked
                asked[request.approval_id] = request
            case ApprovalGranted(approval_id=id_):
                assert id_ in asked, "somebody consented to what nobody asked"
                assert id_ not in answered, "one request was answered twice"
                answered.add(id_)
                granted[asked[id_].attempt, asked[id_].plan_digest] = id_
            case ApprovalExpired(approval_id=id_) if id_ in asked:
                granted.pop((asked[id_].attempt, asked[id_].plan_digest), None)
            case AttemptPlanned() as planned if planned.gate.decision == "proceed":
                key = (planned.attempt, planned.plan_digest)
                if not always_asked and key not in {(item.attempt, item.plan_digest) for item in asked.values()}:
                    continue
                assert granted.pop(key, None), f"a plan acts without consent, or on a used one: {planned.attempt}"
                used += 1
    return used


def the_journal_verifies(home: Home) -> None:
    """Raise AssertionError unless the log is whole, and not behind its head."""
    verified = verify_journal(home.journal, vkeys=home.verifier_keys.read_text().split(), known_head=home.head_note.read_text())
    assert verified.ok, verified


def nothing_is_left(base: Path) -> None:
    """Locks, scratch and temporary files of killed hosts are gone once another one has stopped."""
    home = base / "home"
    assert {path.name for path in (home / "locks").iterdir()} <= {"subjects.lock", "machine.lock"}
    assert not list((home / "scratch").iterdir())
    assert not list((home / "blobs" / "incoming").iterdir())
    # What somebody was writing when they were killed is no message; it is removed when it is old.
    assert not [path for path in (home / "inbox").iterdir() if path.is_file() and not path.name.startswith(".")]
    keys = {path.name for path in (base / "keys").iterdir()}
    assert keys <= {"head.note", "head.note.acknowledged", "home", "signing.key", "signing.vkey", "rotation.lock"}
    files = {path.name for path in home.iterdir() if path.is_file()}
    assert files <= {"journal.sqlite3", "journal.lock", "snapshot.bin", ".gitignore", "told.json"}


def in_parallel(workers: SimpleQueue[Any], number: int, work: Callable[[Any, Any], None], items: list[Any]) -> None:
    """Do `work` for each item, `number` at a time; what failed is told together."""
    problems: list[str] = []

    def one(item: Any) -> None:
        worker = workers.get()
        try:
            work(worker, item)
        except Exception:
            problems.append(f"--- {item}\n{traceback.format_exc()[-1800:]}")
        finally:
            workers.put(worker)

    with ThreadPoolExecutor(number) as pool:
        list(pool.map(one, items))
    assert not problems, f"{len(problems)} of {len(items)} went wrong:\n" + "\n".join(problems[:6])
