"""
What the state stands on when earlier entries were archived: as JSON that later releases can read, with a digest in a signed entry.

Kept is what has no end (runbooks and their records, grants, pauses, host instances) and every incident that had begun and was not over
at that point, folded from residues: no free text of archived entries stays behind. What is let go is derived from these, or about
limits that have run out, for which an archive waits (`remediation.core.standing`). How long the streams were is kept with it, so that the
signature covers that too; to the state it means nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import TypeAdapter, ValidationError

from remediation.core.incident import Incident
from remediation.core.lifecycle import RunbookRecord
from remediation.errors import JournalTooNew
from remediation.model.entries import HostStarted, PauseStarted, TrustGranted

VERSION = 1
KEPT: Mapping[str, Any] = {
    "runbooks": TypeAdapter(dict[str, RunbookRecord]),
    "grants": TypeAdapter(dict[str, TrustGranted]),
    "pauses": TypeAdapter(tuple[PauseStarted, ...]),
    "instances": TypeAdapter(dict[str, HostStarted]),
}
"""Attributes of `HostState` by name. A new field of one of these types needs a default, as those of entries do."""
LET_GO = frozenset({"by_fingerprint", "by_code", "approvals", "past", "forgotten", "fenced", "touched", "changes", "tallies"})
"""Attributes that are derived from the incidents, or that nothing needs any more."""

_INCIDENTS: Any = TypeAdapter(list[Incident])
_DOCUMENT: Any = TypeAdapter(dict[str, Any])


def dump(size: int, state: Mapping[str, Any], streams: Mapping[str, int]) -> bytes:
    """
    The ground after `size` entries.

    Args:
        size: Entries folded.
        state: The attributes of a `HostState` into which these entries' residues were folded.
        streams: How long each stream was that goes on.

    """
    unsettled = [state["incidents"][id_] for id_ in state["by_fingerprint"].values()]
    document = {
        "v": VERSION,
        "size": size,
        "streams": dict(sorted(streams.items())),
        "incidents": _INCIDENTS.dump_python(unsettled, mode="json"),
        **{name: kind.dump_python(state[name], mode="json") for name, kind in KEPT.items() if name in state},
    }
    return bytes(_DOCUMENT.dump_json(document))


def load(content: bytes) -> tuple[int, list[Incident], dict[str, Any]]:
    """
    Size, incidents that were not over, and the other attributes by name.

    Raises:
        JournalTooNew: this release can't read it.

    """
    try:
        document = _DOCUMENT.validate_json(content)
        if document.pop("v") != VERSION:
            raise ValueError("of another version")
        document.pop("streams", None)  # for the journal: see `remediation.journal.store.streams_of`
        size, incidents = int(document.pop("size")), _INCIDENTS.validate_python(document.pop("incidents"))
        return size, incidents, {name: KEPT[name].validate_python(value) for name, value in document.items()}
    except (ValidationError, ValueError, KeyError, TypeError) as error:
        raise JournalTooNew(
            f"the state that was kept when entries were archived can't be read by this release ({type(error).__name__}); use the release "
            "that wrote it, or bring the entries back: `remediation journal archive --restore FILE`"
        ) from error
