"""
CloudEvents 1.0 in its JSON event format, one event a line.

``source`` is the log and ``id`` the entry's, which together are unique, as the specification demands; ``subject`` is the stream.
Extension attributes: ``sequence`` (the position in the log in 20 digits, so that it sorts; CloudEvents' "Sequence" extension),
``leafhash``, ``streamsequence``, ``actor``, and those of the "Correlation" extension. An erased entry has no ``data``.
"""

from __future__ import annotations

from remediation.stores.exporting.records import ExportedEntry, line


class CloudEvents:
    """The encoder."""

    def __init__(self, origin: str) -> None:
        """For the log `origin`."""
        self._origin = origin

    def encode(self, entry: ExportedEntry) -> bytes:
        """One event."""
        event: dict[str, object] = {
            "specversion": "1.0",
            "id": entry.id,
            "source": self._origin,
            "type": f"remediation.{entry.type}",
            "subject": entry.stream,
            "time": entry.time,
            "sequence": f"{entry.seq:020d}",
            "leafhash": entry.leaf_hash,
            "streamsequence": f"{entry.stream_seq:020d}",
            "actor": entry.actor,
        }
        if entry.correlation is not None:
            event["correlationid"] = entry.correlation
        if entry.causation is not None:
            event["causationid"] = entry.causation
        if entry.body is not None:
            event["datacontenttype"] = "application/json"
            event["data"] = entry.body
        return line(event)

    def finish(self) -> bytes:
        """Nothing."""
        return b""
