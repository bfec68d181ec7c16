"""Healthy means that the rerun succeeded, and the next run by schedule too."""

import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.support.healing import Attempt
from tests.support.volatile_site import Site

from remediation.effects.rerun_job import RerunJob, RerunOutput
from remediation.model.base import epoch_ms
from remediation.model.events import Provenance
from remediation.model.plan import PlanRecord, Receipt
from remediation.model.runbook import Verdict, Wait


@pytest.fixture
def site(tmp_path: Path) -> Site:
    site = Site(tmp_path)
    site.with_content_in_history()
    return site


async def after_rerun(site: Site, provenance: Provenance = Provenance.SENTINEL, jobs: Any = None, **output: Any) -> Attempt:
    """An attempt whose rerun ended like this a moment ago."""
    attempt = site.attempt(await site.fails(), {"jobs": jobs} if jobs else None, provenance)
    now = epoch_ms(site.watch.clock.now())
    fields = {"exit_code": 0, "said": "", "started_at": now, "duration_ms": 1000} | output
    receipt = Receipt(key="a:0:1", kind=RerunJob.kind, outcome="applied", output=RerunOutput(**fields).model_dump_json(), at=now)
    attempt.facts.receipts = (Receipt(key="a:0:0", kind="git.commit", outcome="applied", at=now), receipt)
    attempt.facts.last_effect_at = now
    return attempt


async def test_it_waits_for_the_next_run_by_schedule(site: Site) -> None:
    attempt = await after_rerun(site)
    waited = await attempt.verify()
    assert isinstance(waited, Wait)
    assert timedelta(minutes=10) < waited.delay < timedelta(minutes=12)


async def test_a_cleared_degradation_after_the_rerun_is_healthy(site: Site) -> None:
    attempt = await after_rerun(site)
    attempt.cleared()
    verdict = await attempt.verify()
    assert isinstance(verdict, Verdict)
    assert (verdict.status, verdict.reason) == ("healthy", "the next run by schedule succeeded too")


async def test_after_three_runs_that_nobody_saw_nothing_can_be_said(site: Site) -> None:
    attempt = await after_rerun(site)
    waits = 0
    while isinstance(answer := await attempt.verify(), Wait):
        waits += 1
        site.watch.clock.advance(seconds=answer.delay.total_seconds() + 0.001)
    assert waits == 3
    assert answer.status == "inconclusive"
    assert "no run by schedule was seen to succeed" in answer.reason


async def test_a_cron_schedule_is_waited_for_at_its_times(site: Site) -> None:
    site.table |= {"every": None, "cron": "0 3 * * *", "timezone": "UTC"}
    await site.sentinel.check(site.watch)
    site.watch.clock.advance(days=1)
    attempt = await after_rerun(site)
    answer = await attempt.verify()
    assert isinstance(answer, Wait)
    due = site.watch.clock.now() + answer.delay
    assert (due.hour, due.minute) in {(3, 1), (3, 0)}


async def test_a_failed_rerun_is_a_failed_heal_and_says_how(site: Site) -> None:
    attempt = await after_rerun(site, exit_code=2, said="ValueError: no\n")
    verdict = await attempt.verify()
    assert isinstance(verdict, Verdict)
    assert (verdict.status, verdict.reason) == ("failed", "the rerun of the job failed: exit code 2")
    assert "ValueError: no" in verdict.evidence[0]
    late = await (await after_rerun(site, exit_code=None, error="'x' was ended after 3 s")).verify()
    assert isinstance(late, Verdict)
    assert late.reason == "the rerun of the job failed: 'x' was ended after 3 s"


async def test_without_a_receipt_of_the_rerun_nothing_can_be_said(site: Site) -> None:
    attempt = await after_rerun(site)
    for receipts in ((), attempt.facts.receipts[:1], (Receipt(key="k", kind=RerunJob.kind, outcome="uncertain"),)):
        attempt.facts.receipts = receipts
        verdict = await attempt.verify()
        assert isinstance(verdict, Verdict)
        assert verdict.status == "inconclusive"


async def test_a_job_without_a_schedule_is_healthy_after_its_rerun(site: Site) -> None:
    jobs = {"build-pages": {"command": [sys.executable, "scripts/build.py"], "cwd": str(site.project.top)}}
    verdict = await (await after_rerun(site, Provenance.EXPLICIT, jobs)).verify()
    assert isinstance(verdict, Verdict)
    assert verdict.status == "healthy"
    scheduled = {"build-pages": jobs["build-pages"] | {"every": "1h"}}
    assert isinstance(await (await after_rerun(site, Provenance.EXPLICIT, scheduled)).verify(), Wait)


async def test_the_escalation_of_a_plan_that_was_not_allowed_says_what_was_missing(site: Site) -> None:
    attempt = site.attempt(await site.fails())
    await attempt.precondition()
    told = await attempt.runbook.escalate(attempt.ctx)
    assert told.title == "the job build-pages misses a file"
    assert "is gone" in told.analysis
    proposed = await attempt.action()
    attempt.facts.plan = PlanRecord(
        stage=0, effects=(), more=False, summary=proposed.summary, reversibility="disposable", radius="process", nonce="1"
    )
    told = await attempt.runbook.escalate(attempt.ctx)
    assert len(told.actions) == 1
    assert "remediation runbooks promote volatile-path" in told.actions[0]


async def test_the_escalation_asks_for_the_content_only_if_it_is_not_known(site: Site, tmp_path: Path) -> None:
    known = site.attempt(await site.fails())
    await known.precondition()
    assert not any("content, regenerate or backups" in action for action in (await known.runbook.escalate(known.ctx)).actions)
    (tmp_path / "bare").mkdir()
    bare = Site(tmp_path / "bare")
    bare.project.commit({"scripts/build.py": bare.script()})
    unknown = bare.attempt(await bare.fails())
    await unknown.precondition()
    told = await unknown.runbook.escalate(unknown.ctx)
    assert any("content, regenerate or backups" in action for action in told.actions)
    assert any("Put the file into the repository" in action for action in told.actions)
