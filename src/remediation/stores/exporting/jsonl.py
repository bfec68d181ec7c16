"""The export that proves itself: JSON Lines with the exact leaves (``docs/specs/journal-format-v1.md``, section "Export file")."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from remediation.errors import JournalDamaged
from remediation.proof import VerifierKey, claimed_size, entry_line, header_line, last_line
from remediation.stores.exporting.records import ALL, Progress, Selection, Write, told
from remediation.stores.parts import Parts


def export_journal(
    path: Path,
    note: str,
    vkeys: Sequence[str],
    write: Write,
    *,
    selection: Selection = ALL,
    progress: Progress | None = None,
) -> int:
    """
    Write the export of the log up to the signed head `note`, line by line; returns the number of entries in it.

    Nothing is verified: whoever gets the export does that. One that does not begin with the first entry is a part: by itself it is
    incomplete, and proves nothing.

    Args:
        path: ``journal.sqlite3``.
        note: A signed head of this log; one that may be known outside (see ``head.note``).
        vkeys: The log's keys, the first one first. Where the entries up to `note` tell of key rotations, these name the keys.
        write: Takes each line, newline included.
        selection: Where to begin.
        progress: Told how far it is.

    Raises:
        NoteError: `note` or `vkeys` are malformed.
        JournalDamaged: the database can't be read to its end, or holds fewer entries than `note` is over.
        JournalUnavailable: it can't be reached.
        JournalTooNew: it was written by a newer release, which may have stored more than this one would check.

    """
    size = claimed_size(note)
    origin = VerifierKey.parse(vkeys[0]).name
    with Parts(path) as parts:
        parts.require(size)
        start = selection.start(parts, size)
        rotations = parts.rotations(size)
        # Those of later rotations are not of this export.
        keys = _chain(parts, rotations) or list(vkeys[:1])
        keys = keys[sum(1 for seq in rotations if seq < start) :]
        checkpoints = {at: text for at, text in parts.checkpoints() if at - 1 in rotations}
        write(header_line(origin, keys, start=start))
        for leaf, salt, body, seq, *_ in told(parts.range(start, size), start, size, progress):
            if leaf is None:
                raise JournalDamaged(f"{path}: entry {seq} has no leaf; run `remediation journal verify`")
            write(entry_line(leaf, salt, body))
        write(last_line(note, [checkpoints[seq + 1] for seq in rotations if seq >= start and seq + 1 in checkpoints]))
    return size - start


def _chain(parts: Parts, rotations: list[int]) -> list[str]:
    """The log's keys as its rotations tell; none if there was no rotation."""
    keys: list[str] = []
    for seq in rotations:
        _, _, body, *_ = parts.entry(seq)
        try:
            said = json.loads(body or b"")
            keys = [*(keys or [str(said["old"])]), str(said["new"])]
        except (ValueError, KeyError, TypeError) as error:
            raise JournalDamaged(
                f"entry {seq} rotates the key, but does not name the old and the new one; run `remediation journal verify`"
            ) from error
    return keys
