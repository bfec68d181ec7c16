"""Options of the runbook, and whose word about backups counts."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from remediation.model.events import DegradationEvent, Provenance
from remediation.runbooks._sqlite.options import SqliteCorruptionOptions, known

PATH = Path("/srv/app/app.db")


def event(**changes: object) -> DegradationEvent:
    evidence = {"backups": ["/srv/b/*.db", "relative", 7], "last_good": {"at": 5, "rows": {"a": 1}}}
    return DegradationEvent(code="SQLITE_CORRUPT", subsystem="sqlite", **({"subject": str(PATH), "evidence": evidence} | changes))


def options(**given: object) -> SqliteCorruptionOptions:
    return SqliteCorruptionOptions.model_validate(given)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"backups": ["backups/*.db"]}, "absolute pattern"),
        ({"databases": [{"path": "app.db"}]}, "absolute path"),
        ({"quiesce": "stop"}, "belong together"),
        ({"resume": "go"}, "belong together"),
        ({"unit": "a.service", "quiesce": "stop", "resume": "go"}, "either a unit or"),
        ({"backup": []}, "Extra inputs"),
    ],
)
def test_what_makes_no_sense_is_refused(given: dict[str, object], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        options(**given)


@pytest.mark.parametrize("provenance", [Provenance.SENTINEL, Provenance.NATIVE])
def test_evidence_of_sentinels_and_of_the_host_counts(provenance: Provenance) -> None:
    found = known(options(), event(), provenance, PATH)
    assert found.specific == ("/srv/b/*.db",)
    assert (found.before.at, found.before.rows) == (5, {"a": 1})


@pytest.mark.parametrize("provenance", [Provenance.EXPLICIT, Provenance.FREE_TEXT])
def test_evidence_of_anybody_does_not_count(provenance: Provenance) -> None:
    found = known(options(), event(), provenance, PATH)
    assert (found.specific, found.general, found.before.at) == ((), (), 0)


def test_tainted_evidence_does_not_count() -> None:
    found = known(options(), event(tainted=("backups", "last_good")), Provenance.SENTINEL, PATH)
    assert (found.specific, found.before.at) == ((), 0)


def test_evidence_that_makes_no_sense_does_not_count() -> None:
    for evidence in ({"backups": "x", "last_good": 3}, {"backups": {"a": 1}, "last_good": {"rows": {"a": "many"}}}, {"cut": True}):
        found = known(options(), event(evidence=evidence), Provenance.SENTINEL, PATH)
        assert (found.specific, found.before.rows) == ((), {})


def test_what_is_said_for_one_database_goes_before_what_is_said_for_all() -> None:
    given = options(
        backups=["/all/*.db"],
        quiesce="stop",
        resume="go",
        databases=[{"path": "/srv/app//app.db", "backups": ["/one/*.db"], "unit": "app.service"}, {"path": "/srv/other.db"}],
    )
    own = known(given, event(), Provenance.EXPLICIT, PATH)
    assert (own.specific, own.general, own.around.unit, own.around.quiesce) == (("/one/*.db",), (), "app.service", "")
    other = known(given, event(subject="/srv/other.db"), Provenance.EXPLICIT, Path("/srv/other.db"))
    assert (other.specific, other.general, other.around.quiesce) == ((), ("/all/*.db",), "stop")
