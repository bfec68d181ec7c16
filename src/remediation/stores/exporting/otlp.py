"""
OpenTelemetry logs in OTLP/JSON, as the file exporter writes them and the collector's ``otlpjsonfile`` receiver reads them.

One ``LogsData`` a line, with up to `BATCH` records that are together below `BATCH_BYTES`; the proto3 JSON mapping with OTLP's own
rules: 64-bit integers as strings, ``traceId`` in hex (opentelemetry.io/docs/specs/otlp, "JSON Protobuf Encoding"). The records are
events: ``eventName`` is the entry's type, the body its content. All records of one incident share a trace id, made from the entry's
correlation, so that a backend shows them as one story.
"""

from __future__ import annotations

import re
from hashlib import sha256
from typing import Any

from remediation import __version__
from remediation.stores.exporting.gravity import Gravity, gravity_of
from remediation.stores.exporting.records import ExportedEntry, encoded

BATCH = 128
BATCH_BYTES = 512 * 1024
"""The receiver takes lines up to 1 MiB by default."""

_SEVERITY = {
    Gravity.UNKNOWN: (0, ""),
    Gravity.INFO: (9, "INFO"),
    Gravity.LOW: (10, "INFO2"),
    Gravity.MEDIUM: (13, "WARN"),
    Gravity.HIGH: (17, "ERROR"),
    Gravity.CRITICAL: (21, "FATAL"),
}
"""Numbers and short names of the logs data model, "SeverityNumber"."""
_TRACE_ID = re.compile(r"(?!0{32})[0-9a-f]{32}")


class OtlpLogs:
    """The encoder."""

    def __init__(self, origin: str) -> None:
        """For the log `origin`."""
        resource = {
            "attributes": [
                _attribute("service.name", "remediation"),
                _attribute("service.version", __version__),
                _attribute("service.instance.id", origin.partition("/")[0]),
                _attribute("remediation.log", origin),
            ]
        }
        scope = {"name": "remediation.journal", "version": __version__}
        self._head = f'{{"resourceLogs":[{{"resource":{encoded(resource)},"scopeLogs":[{{"scope":{encoded(scope)},"logRecords":['
        self._held: list[str] = []
        self._bytes = 0

    def encode(self, entry: ExportedEntry) -> bytes:
        """The batch before `entry`, if that is full; `entry` is held back."""
        record = encoded(_record(entry))
        full = len(self._held) == BATCH or (self._bytes and self._bytes + len(record) > BATCH_BYTES)
        batch = self.finish() if full else b""
        self._held.append(record)
        self._bytes += len(record)
        return batch

    def finish(self) -> bytes:
        """The last batch."""
        if not self._held:
            return b""
        batch = f"{self._head}{','.join(self._held)}]}}]}}]}}\n".encode()
        self._held.clear()
        self._bytes = 0
        return batch


def trace_id(correlation: str) -> str:
    """The trace id of all entries with this correlation: itself where it can be one, else the beginning of its SHA-256."""
    return correlation if _TRACE_ID.fullmatch(correlation) else sha256(correlation.encode()).hexdigest()[:32]


def _record(entry: ExportedEntry) -> dict[str, Any]:
    number, text = _SEVERITY[gravity_of(entry)]
    nanoseconds = str(entry.milliseconds() * 1_000_000)
    attributes = [
        _attribute("log.record.uid", entry.id),
        _attribute("remediation.seq", entry.seq),
        _attribute("remediation.leaf_hash", entry.leaf_hash),
        _attribute("remediation.stream", entry.stream),
        _attribute("remediation.stream_seq", entry.stream_seq),
        _attribute("remediation.actor", entry.actor),
    ]
    if entry.correlation is not None:
        attributes.append(_attribute("remediation.correlation", entry.correlation))
    if entry.causation is not None:
        attributes.append(_attribute("remediation.causation", entry.causation))
    if entry.body is None:
        attributes.append(_attribute("remediation.erased", value=True))
    record: dict[str, Any] = {
        "timeUnixNano": nanoseconds,
        "observedTimeUnixNano": nanoseconds,
        "severityNumber": number,
        "severityText": text,
        "eventName": f"remediation.{entry.type}",
        "attributes": attributes,
    }
    if entry.body is not None:
        record["body"] = _value(entry.body)
    if entry.correlation is not None:
        record["traceId"] = trace_id(entry.correlation)
    return record


def _attribute(key: str, value: str | int) -> dict[str, Any]:
    return {"key": key, "value": _value(value)}


def _value(value: Any) -> dict[str, Any]:
    """An ``AnyValue`` (opentelemetry/proto/common/v1/common.proto)."""
    if isinstance(value, str):
        return {"stringValue": value}
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int):
        return {"intValue": str(value)}
    if isinstance(value, list):
        return {"arrayValue": {"values": [_value(item) for item in value]}}
    if isinstance(value, dict):
        return {"kvlistValue": {"values": [{"key": key, "value": _value(item)} for key, item in value.items()]}}
    return {}
