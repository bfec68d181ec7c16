"""What of events, entries and plans is masked before it is journaled, and what never is; and which expressions of plugins are taken."""

import json
import time
import types
import typing
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from remediation.model.entries import (
    ApprovalGranted,
    AttemptFinished,
    DegradationCoalesced,
    DegradationReported,
    IncidentSettled,
    StageApplied,
    entry_types,
)
from remediation.model.events import DegradationEvent, Provenance
from remediation.model.plan import EffectRecord, PlannedEffect, PlanRecord, Promise, Receipt
from remediation.model.redaction import Redactor
from remediation.model.redaction.foreign import rule_of
from remediation.model.redaction.journaled import EXACT, identity, redacted, redacted_event
from remediation.model.redaction.plans import secrets_of, without_secrets
from remediation.model.runbook import Bounds, Escalation, Finding, Radius, Reversibility, Verdict
from remediation.model.text import EVIDENCE_CAP, SUMMARY_CAP, capped, clamp_json, ending

TOKEN = "ghp_" + "aB3d" * 9
REDACTOR = Redactor()


def texts_of(kind: type[BaseModel], seen: set[type] | None = None) -> dict[str, Any]:
    """The fields of an entry that hold text, those of its parts included."""
    seen = seen if seen is not None else set()
    found: dict[str, Any] = {}
    for name, field in kind.model_fields.items():
        if name in EXACT:
            continue
        for part in flat(field.annotation):
            if part is str:
                found[f"{kind.__name__}.{name}"] = name
            elif isinstance(part, type) and issubclass(part, BaseModel) and part not in seen:
                seen.add(part)
                found |= texts_of(part, seen)
    return found


def flat(annotation: Any) -> list[Any]:
    if typing.get_origin(annotation) is Literal:
        return []
    if typing.get_origin(annotation) in (typing.Union, types.UnionType, tuple):
        return [part for argument in typing.get_args(annotation) for part in flat(argument)]
    return [annotation]


PROSE = frozenset(
    """
    reason error summary evidence analysis actions anew skipped line diff loses note output title subject code subsystem tainted why
    deprecated
    """.split()
)


def test_each_text_of_each_entry_is_prose_or_exact() -> None:
    """A text that an entry gets is masked unless it is exact: whoever adds one decides which it is, here or there."""
    fields = {where: name for kind in entry_types().values() for where, name in texts_of(kind).items()}
    assert {where for where, name in fields.items() if name not in EXACT and name not in PROSE} == set()
    assert not EXACT & PROSE


def test_signed_documents_and_identities_stay_as_they_are() -> None:
    entry = ApprovalGranted(
        approval_id=TOKEN, approver="alice@example.org", document=f'{{"password": "{TOKEN}"}}', signature=f"sig={TOKEN}"
    )
    assert redacted(REDACTOR, entry) is entry


def test_prose_in_the_depths_of_an_entry_is_masked() -> None:
    receipt = Receipt(
        key="a:0:0",
        kind="command.run",
        outcome="applied",
        output=json.dumps({"stdout": f"x {TOKEN}", "exit_code": 0, "token": 3, "at": "/a/b@c.example/d"}),
        error=TOKEN,
    )
    entry = AttemptFinished(
        attempt="a",
        runbook="r",
        outcome="failed",
        receipts=(receipt,),
        verdict=Verdict.failed(TOKEN, [f"e {TOKEN}"]),
        reason=TOKEN,
        revert=("a:0:0",),
    )
    result = redacted(REDACTOR, entry)
    assert TOKEN not in repr(result)
    assert json.loads(result.receipts[0].output) == {
        "stdout": "x [redacted:github-token]",
        "exit_code": 0,
        "token": 3,
        "at": "/a/b@c.example/d",
    }
    assert result.revert == entry.revert
    assert redacted(REDACTOR, result) is result
    coalesced = DegradationCoalesced(
        count=2, severity="P1", observed_at=1, why="severity", summary=TOKEN, evidence=json.dumps({"password": "x"})
    )
    assert json.loads(redacted(REDACTOR, coalesced).evidence) == {"password": "[redacted:secret]"}
    assert redacted(REDACTOR, IncidentSettled(status="escalated", reason="r", actions=("a", TOKEN))).actions == (
        "a",
        "[redacted:github-token]",
    )


def test_an_entry_without_secrets_is_the_same_object() -> None:
    event = DegradationEvent(
        code="C",
        subsystem="s",
        subject="/srv/app/x.lock",
        summary="the lock is stale",
        evidence={"pid": 4711, "frames": [{"file": "a.py"}]},
    )
    entry = DegradationReported(event=event, provenance=Provenance.NATIVE)
    assert redacted(REDACTOR, entry) is entry
    assert redacted_event(REDACTOR, event) is event
    stage = StageApplied(attempt="a", stage=0, receipts=(Receipt(key="k", kind="x", outcome="applied", output='{"a": [1, 2.5]}'),))
    assert redacted(REDACTOR, stage) is stage


def test_the_identity_of_a_subject_is_the_same_however_it_is_asked_for() -> None:
    for subject in (f"https://x/?token={TOKEN}", "plain", f"{'y' * 5000}{TOKEN}", "alice@example.org", "a\ud800b"):
        event = redacted_event(REDACTOR, DegradationEvent(code="C", subsystem="s", subject=subject))
        assert event.subject == identity(REDACTOR, subject)
        assert TOKEN not in event.subject
        assert identity(REDACTOR, event.subject) == event.subject


@given(st.integers(0, 60), st.sampled_from([TOKEN, "password=hunter2hunter2hunter2", "https://u:hunter2hunter2hunter2@h/"]))
def test_what_is_cut_is_masked_before(shift: int, secret: str) -> None:
    def halves(text: str) -> bool:
        return "aB3daB3daB3" in text or "hunter2hunter" in text

    for cap in (300, SUMMARY_CAP):
        long = "x " * ((cap - 40) // 2) + "y" * (shift % 2) + " " * shift + secret + " tail" * 100
        assert not halves(capped(long, cap))
        assert len(capped(long, cap)) <= cap
        tail = "head " * 100 + secret + " " * shift + "x " * ((cap - 40) // 2)
        assert not halves(ending(tail, cap))
        assert len(ending(tail, cap)) <= cap
    long = "x " * 1000 + " " * shift + secret + " tail" * 1000
    assert not halves(DegradationEvent(code="C", subsystem="s", subject="x", summary=long).summary)
    assert not halves(
        repr(Finding.applies(evidence=[long], reason=long))
        + repr(Verdict.failed(long))
        + repr(Escalation(title=long, analysis=long * 3))
    )


def test_evidence_that_is_too_large_is_masked_before_it_is_cut() -> None:
    result = clamp_json({"password": "hunter2hunter2", "list": [f"{TOKEN} {'x' * 1000}"] * 200})
    assert result["cut"]
    assert result["size"] > EVIDENCE_CAP
    assert "hunter2" not in result["head"]
    assert "aB3d" not in result["head"]
    assert clamp_json(result) == result


def plan(data: dict[str, Any], *, prepared: str = "{}", bounds: Bounds | None = None) -> PlanRecord:
    effect = PlannedEffect(
        key="a:0:0",
        effect=EffectRecord(kind="test.kind", version=1, data=json.dumps(data)),
        prepared=prepared,
        promise=Promise.STATE,
        reversibility=Reversibility.REVERSIBLE,
        radius=Radius.PROCESS,
        line="x",
    )
    return PlanRecord(
        stage=0,
        effects=(effect,),
        more=False,
        bounds=bounds,
        reversibility=Reversibility.REVERSIBLE,
        radius=Radius.PROCESS,
        nonce="0",
    )


@pytest.mark.parametrize(
    ("data", "told"),
    [
        ({"argv": ["x", TOKEN]}, "effect 1, test.kind: argv: github-token"),
        ({"argv": ["x", "--password", "hunter2"]}, "effect 1, test.kind: argv: the value of --password"),
        ({"argv": ["mysql", "-phunter2"]}, "effect 1, test.kind: argv: a password among arguments"),
        ({"argv": ["sh", "-c", "mysql -phunter2"]}, "effect 1, test.kind: argv: command"),
        ({"env": {"PGPASSWORD": "hunter2"}}, "effect 1, test.kind: PGPASSWORD: the value of a secret's name"),
        ({"env": {"DB_PASSWORD": "hunter2"}}, "effect 1, test.kind: DB_PASSWORD: the value of a secret's name"),
        ({"env": [["API_TOKEN", "hunter2"]]}, "effect 1, test.kind: API_TOKEN: the value of a secret's name"),
        ({"args": '{"auth": {"user": "bob", "word": "x"}}'}, "effect 1, test.kind: auth: the value of a secret's name"),
        ({"content": "a\nPASSWORD=swordfish\nb\n"}, "effect 1, test.kind: content: assignment"),
        ({"content": "a\npassword: swordfish\nb\n"}, "effect 1, test.kind: content: assignment"),
        ({"content": "x\npassword = 'swordfish'\n"}, "effect 1, test.kind: content: assignment"),
        ({"files": [["a.txt", TOKEN]]}, "effect 1, test.kind: files: github-token"),
    ],
)
def test_where_a_plan_holds_a_credential_is_told_without_it(data: dict[str, Any], told: str) -> None:
    held = plan(data)
    assert secrets_of(REDACTOR, held).startswith(told)
    masked = without_secrets(REDACTOR, held)
    assert "hunter2" not in masked.model_dump_json() + told
    assert TOKEN not in masked.model_dump_json()
    assert masked.digest != held.digest


@pytest.mark.parametrize(
    "data",
    [
        {"argv": ["x", {"secret": "db"}], "env": {"DB_PASSWORD": {"secret": "db"}}},
        {"argv": ["x", "--password-file", "/run/secrets/x", "--token", "$TOKEN"]},
        {"env": {"PASSWORD": "", "TOKEN": "${TOKEN}", "PASSWORD_FILE": "/x"}},
        {"content": "def f(password, token=None):\n    return connect(password=password, token=auth_token)\n"},
        {"content": "maintainer: alice@example.org\n"},
        {"path": "/srv/alice@example.org/x", "sha256": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
        {"files": [["src/token", "text"], ["secrets/readme.md", "words\n"]]},
    ],
)
def test_references_code_addresses_and_digests_are_no_credentials(data: dict[str, Any]) -> None:
    assert secrets_of(REDACTOR, plan(data)) == ""


def test_bounds_and_what_was_prepared_are_looked_at_too() -> None:
    bounds = Bounds(argv_prefixes=(("x", TOKEN),))
    assert "bounds: argv_prefixes: github-token" in secrets_of(REDACTOR, plan({}, bounds=bounds))
    assert "github-token" in secrets_of(REDACTOR, plan({}, prepared=json.dumps({"was": TOKEN})))
    assert TOKEN not in without_secrets(REDACTOR, plan({}, prepared=json.dumps({"was": TOKEN}), bounds=bounds)).model_dump_json()


@pytest.mark.parametrize(
    "expression",
    [
        "ACME-[0-9]{12}",
        r"acme_\w{4,}",
        "(?i)acme[0-9a-f]{32}",
        "k=([0-9]{4,64})",
        r"(?<!a)ACME\w{10,40}(?!-)",
        "AC(?:ME|NE)-[a-z]+",
        r"(?:ab){1,3}-\d{4}",
    ],
)
def test_an_expression_of_linear_cost_is_taken(expression: str) -> None:
    rule = rule_of(expression)
    assert Redactor(rules=[rule]).text("nothing of that") == "nothing of that"


def test_what_an_expression_matches_is_masked_or_its_last_group() -> None:
    redactor = Redactor(rules=[rule_of("ACME-[0-9]{6}"), rule_of("(?i)serial ([0-9]{4,9})")])
    assert redactor.text("x ACME-123456 SERIAL 98765.") == "x [redacted:custom] SERIAL [redacted:custom]."


@pytest.mark.parametrize(
    "expression",
    [
        r"(a|aa){1,30}b",
        r"(?:x{1,50}){1,50}y",
        r".{0,900}x.{0,900}y",
        r"(\d+)+",
        r"(?:a+b)*c",
        r"\s+$",
        r"(?=a*b)a",
        r"(?:[a-z0-9]{1,20}-){1,9}X",
    ],
)
def test_an_expression_that_could_take_forever_is_refused(expression: str) -> None:
    with pytest.raises(ValueError, match=r"upper bound|ways from one place"):
        rule_of(expression)


@given(st.text(st.sampled_from("ab(){}[]*+?|.^$\\d1,2-:=!<#"), max_size=24))
def test_whatever_is_taken_is_quick(expression: str) -> None:
    try:
        rule = rule_of(expression)
    except ValueError:
        return
    begin = time.process_time()
    for part in ("a", "b", "ab", "1", "-"):
        rule.mask(part * 2000)
    assert time.process_time() - begin < 5
