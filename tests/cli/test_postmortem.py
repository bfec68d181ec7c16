"""The post-mortem: everything that happened can be told from the incident's entries alone, and told safely."""

import json
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from tests.support import stories

from remediation.cli.postmortem import post_mortem
from remediation.cli.postmortem_text import as_markdown, as_text, inline
from remediation.model import entries
from remediation.model.entries import Entry, EntryHead, Record
from remediation.model.runbook import Verdict


def records(written: Sequence[Entry]) -> list[Record]:
    """As the journal gives them back: through their bodies."""
    return [
        Record(
            EntryHead(
                seq=seq,
                id=f"{seq:032x}",
                stream=stories.stream(),
                stream_seq=seq,
                type=entry.type,
                time=f"2024-01-01T00:00:0{min(seq, 9)}.000Z",
                actor="host",
                causation=None,
                correlation=None,
            ),
            entries.decode(entry.type, entry.body()),
        )
        for seq, entry in enumerate(written)
    ]


def document(written: Sequence[Entry]) -> dict:
    made = post_mortem(records(written))
    assert json.loads(json.dumps(made)) == made
    return made


def test_a_heal_is_told_from_detection_to_outcome() -> None:
    told = document(stories.healed())
    assert told["id"] == stories.incident_id()
    assert (told["status"], told["code"], told["severity"]) == ("resolved", "LOCK_STALE", "P2")
    assert told["detected"]["summary"] == "the lock is 3 hours old"
    assert told["detected"]["evidence"] == {"pid": 4711}
    assert told["considered"]["ladder"] == ["stale-lock-file", "restart-job"]
    assert told["considered"]["skipped"] == [{"runbook": "restart-job", "reason": "declined: nothing runs"}]
    (attempt,) = told["attempts"]
    (stage,) = attempt["stages"]
    assert stage["finding"]["confidence"] == 95
    assert stage["gate"]["reasons"][0]["row"] == "lifecycle"
    (effect,) = stage["plan"]["effects"]
    assert (effect["line"], effect["diff"], effect["outcome"]) == ("delete /srv/app/job.lock", "-4711\n", "applied")
    assert attempt["verdict"]["status"] == "healthy"
    assert attempt["outcome"] == "healed"
    assert told["todo"] == []
    assert (told["opened_at"], told["settled_at"]) == ("2024-01-01T00:00:00.000Z", "2024-01-01T00:00:04.000Z")


def test_each_entry_is_in_the_timeline() -> None:
    told = document(stories.healed())
    assert {moment["seq"] for moment in told["timeline"]} == set(range(5))


def test_what_a_person_has_to_do_is_told() -> None:
    told = document(stories.escalated())
    assert told["held"]
    assert told["outcome"]["analysis"] == "Nobody knows this."
    assert told["todo"][0] == "Look at the lock"
    assert f"incident close {stories.incident_id()}" in told["todo"][1]


def test_a_released_incident_leaves_nothing_to_do_and_keeps_its_analysis() -> None:
    told = document([*stories.escalated(), stories.settled("escalated", "closed by kim: mended by hand")])
    assert not told["held"]
    assert told["todo"] == []
    assert told["outcome"]["analysis"] == "Nobody knows this."
    assert told["settled_at"] == "2024-01-01T00:00:02.000Z"


def test_an_open_incident_tells_what_it_waits_for() -> None:
    waiting = entries.IncidentWaiting(until=stories.SEEN, why="cooldown", reason="the subject was changed a short while ago")
    told = document([stories.reported(), stories.opened("x"), waiting])
    assert told["status"] == "open"
    assert told["waiting"]["why"] == "cooldown"
    assert told["waiting"]["until"] == "2023-11-14T22:13:20.000Z"
    assert "changed a short while ago" in told["todo"][0]


def test_a_plan_that_was_withheld_begins_with_why_and_with_what_lets_it_go() -> None:
    reason = "stale-lock-file is registered; to let it act, `remediation runbooks promote stale-lock-file`"
    told = document(
        [
            stories.reported(),
            stories.opened("stale-lock-file"),
            stories.planned(decision="observe", reason=reason),
            entries.AttemptFinished(attempt="at1", runbook="stale-lock-file", outcome="withheld", reason=reason),
            stories.settled("escalated", reason, held=True, actions=("Look at the lock",)),
        ]
    )
    assert told["todo"][0] == f"Its plan was not applied: {reason}"
    assert told["todo"][1] == "Look at the lock"


def test_a_plan_for_which_nobody_may_consent_tells_where_people_are_named() -> None:
    told = document(
        [
            stories.reported(),
            stories.opened("stale-lock-file"),
            stories.planned(decision="ask", reason="a person approves each plan"),
            entries.AttemptFinished(
                attempt="at1", runbook="stale-lock-file", outcome="withheld", reason="nobody may consent: name people's keys"
            ),
            stories.settled("escalated", "nobody may consent", held=True),
        ]
    )
    assert told["todo"][0] == (
        "Its plan was not applied: nobody may consent: name people's keys; then restart the host, and reopen the incident"
    )


def test_a_plan_that_waits_for_consent_tells_how_to_give_it() -> None:
    told = document(
        [
            stories.reported(),
            stories.opened("stale-lock-file"),
            stories.planned(decision="ask", reason="a person approves each plan"),
            entries.ApprovalRequested(
                approval_id="ap1",
                attempt="at1",
                runbook="stale-lock-file",
                code_digest="",
                plan_digest="d" * 64,
                not_after=stories.SEEN,
            ),
            entries.IncidentWaiting(until=stories.SEEN, why="approval", reason="a person must consent", attempt="at1"),
        ]
    )
    assert "until 2023-11-14T22:13:20.000Z" in told["todo"][0]
    assert "`remediation approvals show ap1`, then `remediation approve ap1`" in told["todo"][0]


def test_a_failed_attempt_tells_what_was_taken_back_and_what_could_not_be() -> None:
    one, two = stories.planned_effect("at1:0:0"), stories.planned_effect("at1:0:1", line="write /srv/app/b")
    told = document(
        [
            stories.reported(),
            stories.opened("stale-lock-file"),
            stories.planned(one, two),
            stories.finished("failed", receipts=(stories.receipt(), stories.receipt("at1:0:1")), revert=("at1:0:1", "at1:0:0")),
            entries.EffectStarted(attempt="at1", key="at1:0:1:undo"),
            entries.EffectRevertFailed(attempt="at1", key="at1:0:1", error="somebody changed it"),
            entries.EffectReverted(attempt="at1", key="at1:0:0"),
            stories.settled("heal_failed", "attempts spent", held=True, dirty=True),
        ]
    )
    first, second = told["attempts"][0]["stages"][0]["plan"]["effects"]
    assert first["reverted"]
    assert (second["outcome"], second["revert_error"]) == ("applied", "somebody changed it")
    assert told["dirty"]
    assert any("by hand" in todo and "write /srv/app/b" in todo for todo in told["todo"])


def test_an_uncertain_effect_is_left_for_a_person_to_find_out() -> None:
    told = document(
        [
            stories.reported(),
            stories.opened("stale-lock-file"),
            stories.planned(),
            entries.EffectStarted(attempt="at1", key="at1:0:0"),
            entries.EffectUncertain(attempt="at1", key="at1:0:0", reason="the host was killed"),
        ]
    )
    assert told["attempts"][0]["stages"][0]["plan"]["effects"][0]["outcome"] == "uncertain"
    assert "delete /srv/app/job.lock" in told["todo"][0]


def test_an_effect_that_is_journaled_after_its_successor_says_that_it_was_done_before_it() -> None:
    one, two = stories.planned_effect("at1:0:0"), stories.planned_effect("at1:0:1", line="rerun the job")
    told = document(
        [
            stories.reported(),
            stories.opened("stale-lock-file"),
            stories.planned(one, two),
            entries.EffectStarted(attempt="at1", key="at1:0:1"),
            entries.EffectApplied(attempt="at1", receipt=stories.receipt("at1:0:1")),
            stories.finished(receipts=(stories.receipt(), stories.receipt("at1:0:1"))),
            stories.settled(),
        ]
    )
    applied = [moment["text"] for moment in told["timeline"] if moment["text"].startswith("applied")]
    when = "done at 2023-11-14T22:13:21.000Z, before what the plan has after it; journaled with its stage"
    assert applied == ["applied: rerun the job", f"applied: delete /srv/app/job.lock ({when})"]


def test_several_stages_and_attempts_are_told_apart() -> None:
    told = document(
        [
            stories.reported(),
            stories.opened("stale-lock-file", "other"),
            stories.planned(more=True),
            entries.StageApplied(attempt="at1", stage=0, receipts=(stories.receipt(),)),
            stories.planned(stories.planned_effect("at1:1:0"), stage=1),
            entries.VerificationStarted(
                attempt="at1",
                receipts=(stories.receipt("at1:1:0"),),
                verdict=Verdict.healthy(),
                sustain_ms=60_000,
                deadline=stories.SEEN,
            ),
            stories.finished("failed", receipts=(), revert=()),
            stories.planned(attempt="at2", number=2, runbook="other", decision="ask", reason="a person approves each plan"),
            entries.ApprovalRequested(
                approval_id="ap1", attempt="at2", runbook="other", code_digest="", plan_digest="d" * 64, not_after=stories.SEEN
            ),
            entries.ApprovalDenied(approval_id="ap1", approver="kim", reason="not now"),
        ]
    )
    one, two = told["attempts"]
    assert [stage["stage"] for stage in one["stages"]] == [0, 1]
    assert one["verification"][0]["sustain_ms"] == 60_000
    assert two["approvals"][0]["decision"] == "denied"
    assert two["stages"][0]["gate"]["decision"] == "ask"


def test_a_stage_that_is_planned_again_gets_the_receipts() -> None:
    told = document(
        [
            stories.reported(),
            stories.opened("stale-lock-file"),
            stories.planned(stories.planned_effect(line="first plan"), decision="wait", reason="paused"),
            stories.planned(stories.planned_effect(line="second plan")),
            stories.finished(),
        ]
    )
    first, second = (stage["plan"]["effects"][0] for stage in told["attempts"][0]["stages"])
    assert (first["line"], first["outcome"]) == ("first plan", None)
    assert (second["line"], second["outcome"]) == ("second plan", "applied")


def test_an_effect_with_entries_of_its_own_is_told_once() -> None:
    told = document(
        [
            stories.reported(),
            stories.opened("stale-lock-file"),
            stories.planned(),
            entries.EffectStarted(attempt="at1", key="at1:0:0"),
            entries.EffectApplied(attempt="at1", receipt=stories.receipt()),
            stories.finished(),
        ]
    )
    assert [moment["text"] for moment in told["timeline"]].count("applied: delete /srv/app/job.lock") == 1


def test_an_erased_entry_is_named() -> None:
    kept = records(stories.healed())
    kept[0] = Record(kept[0].head, None, erased=True)
    told = post_mortem(kept)
    assert told["timeline"][0]["text"] == "the content of this entry was erased"
    assert told["status"] == "resolved"
    assert "was erased" in as_text(told)
    assert as_markdown(told)


def test_every_entry_of_an_incident_has_words_of_its_own() -> None:
    wordless = {"host.started", "host.stopped"}  # never in an incident's stream
    told = {
        name
        for name in entries.entry_types()
        if name.split(".")[0] in {"degradation", "incident", "attempt", "stage", "effect", "verification", "approval"}
    }
    from remediation.cli.postmortem import _Telling

    known = {cls.type for cls in _Telling.__dict__["take"].dispatcher.registry if hasattr(cls, "type")}
    assert told - known - wordless == set()


@pytest.mark.parametrize("written", [stories.healed(), stories.escalated()], ids=["healed", "escalated"])
def test_text_and_markdown_tell_the_same(written: list[Entry]) -> None:
    told = document(written)
    text, markdown = as_text(told), as_markdown(told)
    for heading in ("Detected", "Considered", "Outcome", "Left to do", "Timeline"):
        assert f"\n{heading}\n" in text
        assert f"\n## {heading}\n" in markdown
    for word in (told["subject"], told["id"], told["outcome"]["reason"]):
        assert word in text
        assert word in markdown


def hostile_stream() -> list[Entry]:
    hostile = stories.HOSTILE
    return [
        stories.reported(subject=hostile, summary=hostile, evidence={hostile: hostile}, tainted=(hostile,)),
        stories.opened("stale-lock-file", history=(hostile,)),
        stories.planned(
            stories.planned_effect(line=hostile, diff=hostile), skipped=(("other", hostile),), evidence=(hostile,), reason=hostile
        ),
        stories.finished("failed", receipts=(stories.receipt(outcome="failed", error=hostile),), reason=hostile),
        stories.settled("heal_failed", hostile, held=True, analysis=hostile, actions=(hostile,)),
    ]


def test_hostile_text_can_not_move_a_terminals_cursor_or_forge_a_line() -> None:
    text = as_text(document(hostile_stream()))
    assert "\x1b" not in text
    assert "\u202e" not in text
    for line in text.split("\n"):
        assert not line.startswith(("# heading", "@everyone"))


def test_hostile_text_can_not_become_markup() -> None:
    markdown = as_markdown(document(hostile_stream()))
    tokens = MarkdownIt("commonmark", {"html": True, "linkify": False}).parse(markdown)
    headings = [tokens[index + 1].content for index, token in enumerate(tokens) if token.type == "heading_open"]
    assert headings[1:] == ["Detected", "Considered", "Attempt 1: stale-lock-file", "Outcome", "Left to do", "Timeline"]
    for token in tokens:
        assert token.type != "html_block"
        for child in token.children or []:
            assert child.type not in {"link_open", "html_inline", "image", "em_open", "strong_open"}
            if child.type == "text":
                assert "@everyone" not in child.content


@given(st.text())
def test_any_text_survives_in_markdown_as_itself(text: str) -> None:
    from remediation.model.text import printable

    tokens = MarkdownIt("commonmark").parse(f"- a label: {inline(text)}")
    (content,) = [token for token in tokens if token.type == "inline"]
    shown = "".join(child.content for child in content.children or [])
    # Code spans and list items don't keep white space at the edges.
    assert shown.removeprefix("a label:").strip() == printable(text).strip()
    assert {child.type for child in content.children or []} <= {"text", "code_inline"}
