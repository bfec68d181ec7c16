"""Walks through every legal life of an incident (`tests.support.walking`): what must hold, holds, and every beginning goes on alike."""

import random
from collections import Counter
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.support.folding import NOW, Ledger, finished, planned, receipt
from tests.support.rounds import ROUNDS
from tests.support.walked import Steady, Walk
from tests.support.walking import CAP, SPECS

from remediation.core import progress
from remediation.model import entries


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(st.data())
def test_whatever_happens_the_rules_hold_and_the_incident_can_be_settled(data: st.DataObject) -> None:
    walk = Walk(data.draw)
    for _ in range(data.draw(st.integers(0, 60))):
        if data.draw(st.integers(0, 9)) < 7:
            walk.engine()
        else:
            walk.world()
        walk.check()
    walk.every_beginning_goes_on_alike()
    again = walk.ledger.replayed()
    assert again.incidents == walk.ledger.state.incidents
    assert again.by_fingerprint == walk.ledger.state.by_fingerprint


def test_left_alone_every_incident_comes_to_an_end() -> None:
    ends: set[str] = set()
    lives: Counter[str] = Counter()
    for seed in range(max(ROUNDS, 300)):  # they are quick, and fewer don't see every kind of end
        walk = Walk(Steady(seed))
        disturb = random.Random(seed)
        for _ in range(disturb.randrange(40)):
            (walk.engine if disturb.random() < 0.7 else walk.world)()
            walk.check()
        walk.drive_to_the_end()
        ends.add(walk.incident.status.value)
        walk.every_beginning_goes_on_alike(kept_at=disturb.randrange(1, len(walk.ledger.records) + 1))
        lives.update(walk.trail)
    seen = (
        "approval.requested",
        "approval.granted",
        "approval.denied",
        "approval.expired",
        "trust.granted",
        "effect.revert_failed",
    )
    assert all(lives[kind] > 5 for kind in seen), lives
    assert ends == {"resolved", "escalated", "heal_failed"}


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_settled_is_final_but_for_a_release_and_a_reopening(data: st.DataObject) -> None:
    ledger = Ledger(now=NOW)
    made = planned("x", runbook="a")
    incident = ledger.tell(ledger.take_in(ledger.report(), "a"), made)
    status = data.draw(st.sampled_from(["resolved", "escalated", "heal_failed"]))
    incident = ledger.settle(incident, status)
    late: list[Any] = [
        entries.DegradationCoalesced(count=9, severity="P0", observed_at=NOW, why="count"),
        entries.DegradationCleared(observed_at=NOW),
        entries.IncidentOpened(fingerprint=incident.fingerprint, severity="P2", ladder=("b",)),
        entries.IncidentWaiting(until=NOW + 5, why="stage", reason="r"),
        entries.StageApplied(attempt="x", stage=0, receipts=()),
        entries.EffectStarted(attempt="x", key="x:0:0"),
        entries.EffectApplied(attempt="x", receipt=receipt("x:0:0")),
        entries.EffectReverted(attempt="x", key="x:0:0"),
        entries.VerificationStarted(attempt="x", verdict={"status": "healthy"}, sustain_ms=0, deadline=0),
        finished(made, "failed", revert=("x:0:0",)),
        entries.CredentialUsed(name="n", runbook="a", attempt="x"),
    ]
    for entry in data.draw(st.lists(st.sampled_from(late), max_size=6)):
        incident = ledger.tell(incident, entry)
        assert incident.status == status
        assert not incident.open
        assert isinstance(progress.next_step(incident, SPECS, now=NOW, attempt_cap=CAP), progress.Done)
    assert ledger.tell(incident, entries.IncidentReopened(reason="r")).open
