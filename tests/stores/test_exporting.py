"""Records for pipelines: each of them traceable to its entry, valid in its format, and never made from what was altered."""

import base64
import hashlib
import json
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent
from google.protobuf import json_format
from opentelemetry.proto.logs.v1.logs_pb2 import LogsData
from tests.support import stories
from tests.support.journals import said
from tests.support.written_journal import WrittenJournal

from remediation.errors import JournalDamaged
from remediation.model import entries
from remediation.proof import leaf_hash
from remediation.stores.exporting import CloudEvents, Encoder, Ocsf, OtlpLogs, Selection, export_records
from remediation.stores.exporting.gravity import Gravity, gravity_of, sentence_of
from remediation.stores.exporting.otlp import BATCH, BATCH_BYTES
from remediation.stores.exporting.records import ExportedEntry

ERASED = 3


@pytest.fixture(scope="module")
def journal(tmp_path_factory: pytest.TempPathFactory) -> WrittenJournal:
    """Some of everything: a heal, hostile text, an erased body, large bodies, and enough entries for several batches."""
    written = WrittenJournal.make(tmp_path_factory.mktemp("written"))
    written.write(stories.stream(), stories.healed())
    written.write(
        stories.stream("11111111"), [stories.reported(severity="P0", summary=stories.HOSTILE), stories.settled("heal_failed")]
    )
    written.write("host/atlas", [entries.PayloadErased(seq=ERASED, reason="asked for")])
    written.write("host/atlas", [said("x" * 200_000) for _ in range(4)])
    written.write("host/atlas", [said(number) for number in range(300)])
    with sqlite3.connect(written.home.journal) as database:
        database.execute("DELETE FROM payload WHERE seq = ?", (ERASED,))
    return written


def stored(journal: WrittenJournal) -> list[tuple[bytes, bytes | None]]:
    with sqlite3.connect(journal.home.journal) as database:
        return database.execute("SELECT leaf, body FROM entry LEFT JOIN payload USING (seq) ORDER BY entry.seq").fetchall()


def exported(journal: WrittenJournal, encoder: Callable[[str], Encoder], **options: Any) -> list[bytes]:
    """The lines of an export."""
    written: list[bytes] = []
    note = journal.home.head_note.read_text()
    number = export_records(journal.home.journal, note, encoder(journal.signer.key.name), written.append, **options)
    lines = b"".join(written).splitlines(keepends=True)
    assert all(line.endswith(b"\n") and line.isascii() for line in lines)
    assert number >= len(lines)
    return lines


def test_cloudevents_are_read_by_their_own_sdk(journal: WrittenJournal) -> None:
    lines = exported(journal, CloudEvents)
    rows = stored(journal)
    assert len(lines) == len(rows)
    for seq, (line, (leaf, body)) in enumerate(zip(lines, rows, strict=True)):
        event = JSONFormat().read(CloudEvent, line)
        frame = json.loads(leaf)
        assert (event.get_id(), event.get_source(), event.get_specversion()) == (frame["id"], journal.signer.key.name, "1.0")
        assert event.get_type() == f"remediation.{frame['type']}"
        assert event.get_subject() == frame["stream"]
        assert event.get_extension("sequence") == f"{seq:020d}"
        assert event.get_extension("leafhash") == leaf_hash(leaf).hex()
        assert event.get_data() == (None if body is None else json.loads(body))
        assert (event.get_datacontenttype() is None) == (body is None)


def records(lines: list[bytes]) -> list[dict[str, Any]]:
    """The log records of OTLP lines, after OpenTelemetry's own schema has read each line."""
    found = []
    for line in lines:
        document = json.loads(line)
        for resource in document["resourceLogs"]:
            for scope in resource["scopeLogs"]:
                found += scope["logRecords"]
                for record in scope["logRecords"]:
                    if "traceId" in record:
                        # OTLP/JSON has it in hex, the proto3 mapping that is used to check in base64.
                        assert len(record["traceId"]) == 32
                        record["traceId"] = base64.b64encode(bytes.fromhex(record["traceId"])).decode()
        parsed = json_format.ParseDict(document, LogsData())
        assert sum(len(scope.log_records) for resource in parsed.resource_logs for scope in resource.scope_logs) > 0
    return found


def attributes(record: dict[str, Any]) -> dict[str, Any]:
    return {each["key"]: next(iter(each["value"].values())) for each in record["attributes"]}


def test_otlp_is_read_by_opentelemetrys_own_schema(journal: WrittenJournal) -> None:
    found = records(exported(journal, OtlpLogs))
    rows = stored(journal)
    assert len(found) == len(rows)
    for seq, (record, (leaf, body)) in enumerate(zip(found, rows, strict=True)):
        frame, named = json.loads(leaf), attributes(record)
        assert named["remediation.seq"] == str(seq)
        assert named["remediation.leaf_hash"] == leaf_hash(leaf).hex()
        assert record["eventName"] == f"remediation.{frame['type']}"
        assert record["timeUnixNano"].isdigit()
        assert ("body" in record, named.get("remediation.erased", False)) == (body is not None, body is None)
        assert isinstance(record["severityNumber"], int)


def test_the_time_of_a_log_record_is_that_of_its_entry() -> None:
    document = json.loads(OtlpOf(entry(time="2026-03-01T12:00:00.250Z")))
    record = document["resourceLogs"][0]["scopeLogs"][0]["logRecords"][0]
    assert record["timeUnixNano"] == record["observedTimeUnixNano"] == "1772366400250000000"


def entry(**changes: Any) -> ExportedEntry:
    fields: dict[str, Any] = {
        "seq": 7,
        "leaf_hash": "ab" * 32,
        "id": "some-id",
        "stream": "incident/f/1",
        "stream_seq": 0,
        "type": "pause.ended",
        "time": "2026-03-01T12:00:00.250Z",
        "actor": "test",
        "causation": None,
        "correlation": None,
        "body": {"v": 1},
    }
    return ExportedEntry(**(fields | changes))


def OtlpOf(one: ExportedEntry) -> bytes:
    encoder = OtlpLogs("atlas/remediation/0")
    assert encoder.encode(one) == b""
    return encoder.finish()


def test_values_of_each_kind_keep_their_kind_in_otlp() -> None:
    body = {"t": "x", "b": True, "i": 2**53 - 1, "n": None, "l": [1, [], {}], "o": {"k": "v"}}
    parsed = json_format.Parse(OtlpOf(entry(body=body)), LogsData())
    values = {
        each.key: each.value.WhichOneof("value")
        for each in parsed.resource_logs[0].scope_logs[0].log_records[0].body.kvlist_value.values
    }
    assert values == {
        "t": "string_value",
        "b": "bool_value",
        "i": "int_value",
        "n": None,
        "l": "array_value",
        "o": "kvlist_value",
    }


def test_entries_of_one_incident_share_a_trace_and_others_do_not() -> None:
    def trace(correlation: str | None) -> object:
        return json.loads(OtlpOf(entry(correlation=correlation)))["resourceLogs"][0]["scopeLogs"][0]["logRecords"][0].get("traceId")

    assert trace(None) is None
    assert trace("f-1") == trace("f-1") == hashlib.sha256(b"f-1").hexdigest()[:32]
    assert trace("f-1") != trace("f-2")
    assert trace("0123456789abcdef" * 2) == "0123456789abcdef" * 2
    assert trace("0" * 32) != "0" * 32, "a trace id of zeros is not valid"


def test_lines_of_otlp_stay_within_what_the_collector_reads(journal: WrittenJournal) -> None:
    lines = exported(journal, OtlpLogs)
    assert max(map(len, lines)) < 1 << 20
    sizes = [len(records([line])) for line in lines]
    assert max(sizes) == BATCH
    assert all(len(line) < BATCH_BYTES + 2000 for line, size in zip(lines, sizes, strict=True) if size > 1)


REQUIRED = {
    "activity_id": int,
    "category_uid": int,
    "class_uid": int,
    "command_uid": str,
    "metadata": dict,
    "severity_id": int,
    "time": int,
    "type_uid": int,
}
"""Of class remediation_activity and its base in the OCSF schema, with their types."""


def test_ocsf_has_what_the_schema_requires(journal: WrittenJournal) -> None:
    lines = exported(journal, Ocsf)
    rows = stored(journal)
    assert len(lines) == len(rows)
    for seq, (line, (leaf, body)) in enumerate(zip(lines, rows, strict=True)):
        event, frame = json.loads(line), json.loads(leaf)
        for name, kind in REQUIRED.items():
            assert type(event[name]) is kind, name
        assert (event["category_uid"], event["class_uid"]) == (7, 7001)
        assert event["activity_id"] in {0, 1, 2, 3, 4, 99}
        assert event["type_uid"] == event["class_uid"] * 100 + event["activity_id"]
        assert event["activity_id"] != 99 or event["activity_name"] == frame["type"], "Other must be named"
        assert event["severity_id"] in range(6)
        assert event["status_id"] in {1, 2, 3, 4, 5, 6, 99} if "status_id" in event else "status" not in event
        metadata = event["metadata"]
        assert metadata["version"] == "1.3.0"
        assert metadata["product"]["vendor_name"]
        assert metadata["product"]["name"]
        assert (metadata["sequence"], metadata["uid"], metadata["log_name"]) == (seq, frame["id"], journal.signer.key.name)
        assert event["unmapped"]["leaf_hash"] == leaf_hash(leaf).hex()
        assert event["unmapped"].get("body") == (None if body is None else json.loads(body))
        assert event["command_uid"]
        assert event["message"]


def test_ocsf_tells_restoring_from_the_rest_and_success_from_failure() -> None:
    def event(type_: str, **body: Any) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(Ocsf("atlas/remediation/0").encode(entry(type=type_, body=body)))
        return found

    healed = event("attempt.finished", attempt="at1", outcome="healed")
    assert (healed["activity_id"], healed["status_id"], healed["status"], healed["command_uid"]) == (3, 1, "healed", "at1")
    assert event("attempt.finished", attempt="at1", outcome="failed")["status_id"] == 2
    assert event("effect.failed", attempt="at1")["status_id"] == 2
    assert event("incident.settled", status="heal_failed")["status_id"] == 2
    started = event("host.started")
    assert (started["activity_id"], started["activity_name"], started["type_name"]) == (
        99,
        "host.started",
        "Remediation Activity: Other",
    )
    assert "status_id" not in started


def test_every_entry_type_is_weighed_and_told_in_one_line() -> None:
    for type_ in entries.entry_types():
        assert gravity_of(entry(type=type_, body={"v": 1})) in Gravity
        assert "\n" not in sentence_of(entry(type=type_, body=None))
    assert gravity_of(entry(type="degradation.reported", body={"event": {"severity": "P0"}})) is Gravity.CRITICAL
    assert gravity_of(entry(type="degradation.reported", body={"event": {}})) is Gravity.MEDIUM
    assert gravity_of(entry(type="degradation.reported", body=None)) is Gravity.UNKNOWN
    assert gravity_of(entry(type="attempt.finished", body={"outcome": "failed"})) is Gravity.HIGH
    assert gravity_of(entry(type="incident.settled", body={"status": "resolved", "dirty": True})) is Gravity.CRITICAL
    assert gravity_of(entry(type="pause.started", body={"panic": True})) is Gravity.HIGH


@pytest.mark.parametrize("encoder", [CloudEvents, OtlpLogs, Ocsf])
def test_a_body_of_an_unexpected_shape_is_exported_all_the_same(encoder: Callable[[str], Encoder]) -> None:
    for type_ in ("degradation.reported", "attempt.finished", "incident.settled", "pause.started", "of.the.future"):
        for odd in ({"event": [1], "severity": 5, "attempt": {}, "outcome": [], "status": {}, "reason": 4}, {}, None):
            made = encoder("atlas/remediation/0")
            assert json.loads(made.encode(entry(type=type_, body=odd)) + made.finish())


@pytest.mark.parametrize("encoder", [CloudEvents, Ocsf])
def test_an_export_begins_where_it_is_told_to(journal: WrittenJournal, encoder: Callable[[str], Encoder]) -> None:
    whole = exported(journal, encoder)
    assert exported(journal, encoder, selection=Selection(after=4)) == whole[5:]
    assert exported(journal, encoder, selection=Selection(after=len(whole) - 1)) == []
    assert exported(journal, encoder, selection=Selection(after=10**9)) == []
    times = [json.loads(leaf)["time"] for leaf, _ in stored(journal)]
    first = times.index(times[7])
    assert exported(journal, encoder, selection=Selection(since=times[7])) == whole[first:]
    assert exported(journal, encoder, selection=Selection(after=first + 2, since=times[7])) == whole[first + 3 :]
    assert exported(journal, encoder, selection=Selection(since="2999-01-01T00:00:00.000Z")) == []


def test_progress_is_told_from_the_first_entry_to_the_last(journal: WrittenJournal) -> None:
    seen: list[tuple[int, int]] = []
    exported(journal, CloudEvents, progress=lambda done, total: seen.append((done, total)))
    size = len(stored(journal))
    assert seen[0] == (0, size)
    assert seen[-1] == (size, size)


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE payload SET body = CAST(replace(CAST(body AS TEXT), 'LOCK_STALE', 'LOCK_FRESH') AS BLOB) WHERE seq = 0",
        "UPDATE payload SET body = x'00' WHERE seq = 0",
        "UPDATE payload SET salt = zeroblob(32) WHERE seq = 0",
        "UPDATE entry SET leaf = x'00' WHERE seq = 0",
        "UPDATE entry SET leaf = CAST('[]' AS BLOB) WHERE seq = 0",
        "UPDATE entry SET leaf = (SELECT leaf FROM entry WHERE seq = 1) WHERE seq = 0",
        "DELETE FROM entry WHERE seq = 1",
        "DELETE FROM entry WHERE seq = 4",
    ],
)
def test_what_was_altered_is_not_exported(sql: str, tmp_path: Path) -> None:
    journal = WrittenJournal.make(tmp_path)
    journal.write(stories.stream(), stories.healed())
    with sqlite3.connect(journal.home.journal) as database:
        assert database.execute(sql).rowcount > 0
    with pytest.raises(JournalDamaged, match="journal verify"):
        exported(journal, CloudEvents)
