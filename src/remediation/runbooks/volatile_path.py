"""
A scheduled job reads a file from a place that the system cleans away, such as /tmp, and one day the file is gone.

The heal finds the lost content, keeps it in the job's repository, makes the script find it relative to itself, and reruns the job. It
is for the cause: the next cleaning does no harm. Before anything is planned, the failure is reproduced and the change is tried in
clones of the repository. What can't be confirmed, found or changed safely is left to people, with the analysis.
"""

from __future__ import annotations

__proposal_derived_from__ = "volatile-path"

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, ClassVar

from pydantic import ValidationError

from remediation.authoring import (
    BlobRef,
    Effect,
    Escalation,
    Finding,
    GitCommit,
    Handles,
    OutsideRoots,
    Plan,
    RemediationContext,
    Runbook,
    RunbookSpec,
    Timeouts,
    Verdict,
    Wait,
    hookimpl,
)
from remediation.effects.rerun_job import RerunJob, RerunOutput
from remediation.model.base import epoch_ms, from_epoch_ms
from remediation.model.text import ending, printable
from remediation.runbooks._advice import consent
from remediation.runbooks._volatile_path import CanNotHeal
from remediation.runbooks._volatile_path.change import Change, build, check_gone
from remediation.runbooks._volatile_path.content import UNKNOWN
from remediation.runbooks._volatile_path.job import Claim, Job, claim_of, job_of
from remediation.runbooks._volatile_path.message import commit_message
from remediation.runbooks._volatile_path.options import VolatilePathOptions
from remediation.runbooks._volatile_path.repository import Repository, work_trees
from remediation.runbooks._volatile_path.trial import Trials

_MOST_FILES = 8
_MOST_REPOSITORIES = 3
_INLINE = 48 * 1024
_RUNS_TO_WAIT_FOR = 3
_TRIED = "tried.json"
_AGAIN = timedelta(seconds=5)


@dataclass(frozen=True, slots=True)
class _Proven:
    """A change, and what was seen when it was tried."""

    job: Job
    repository: Repository
    change: Change
    seen: tuple[str, ...]


class VolatilePath(Runbook[VolatilePathOptions]):
    """See the module."""

    spec: ClassVar[RunbookSpec] = RunbookSpec(
        id="volatile-path",
        handles=(Handles(code="JOB_FILE_MISSING"),),
        blast_radius="process",
        # The commit is undone exactly. A run of the job is what its operator put on a schedule, to be done again and again.
        reversibility="disposable",
        level="heal",
        timeouts=Timeouts(decide=timedelta(minutes=30), apply=timedelta(minutes=20), verify=timedelta(seconds=30)),
    )

    async def precondition(self, ctx: RemediationContext) -> Finding:
        """Whether the file is really gone, its content found, the script changeable, and the change proven in a clone."""
        try:
            proven = await _prove(ctx)
        except CanNotHeal as why:
            # In one text: of a decline, the journal keeps the reason.
            return Finding.declined("; ".join((why.reason, *why.evidence)))
        change = proven.change
        evidence = [f"{printable(item.missing)} is gone; {item.content.source}" for item in change.kept]
        evidence += [f"{printable(script)} names it in line {', '.join(map(str, lines))}" for script, lines in change.lines.items()]
        return Finding.applies(confidence=change.confidence, evidence=[*evidence, *proven.seen, *change.notes])

    async def action(self, ctx: RemediationContext) -> Plan | Wait:
        """The commit, and one rerun of the job; to be decided anew when the world has changed since the precondition."""
        try:
            proven = await _prove(ctx)
        except CanNotHeal as why:
            return Wait(_AGAIN, f"the world has changed since it was looked at: {why.reason}")
        job, change = proven.job, proven.change
        commit = GitCommit(
            repository=proven.repository.top,
            files=await _stored(ctx, change.files),
            message=commit_message(ctx, job, change, proven.seen),
        )
        rerun = RerunJob(name=job.name, argv=job.argv, cwd=job.cwd, env=job.env, timeout=job.timeout, lock=job.lock)
        gone = ", ".join(printable(item.missing) for item in change.kept)
        return Plan(commit, rerun, summary=f"keep {gone} in the repository of {printable(job.name)}, and rerun it")

    async def verify(self, ctx: RemediationContext) -> Verdict | Wait:
        """The rerun must have succeeded, and so must the next run by schedule, where there is a schedule."""
        rerun = _rerun(ctx)
        if rerun is None:
            return Verdict.inconclusive("nothing is known of the rerun of the job")
        if rerun.exit_code != 0:
            how = rerun.error or f"exit code {rerun.exit_code}"
            return Verdict.failed(
                f"the rerun of the job failed: {printable(how)}", [f"it said: {printable(ending(rerun.said, 600))}"]
            )
        rerun_line = f"the rerun of the job succeeded in {rerun.duration_ms / 1000:.1f} s"
        if ctx.cleared:
            return Verdict.healthy("the next run by schedule succeeded too", [rerun_line])
        try:
            schedule = job_of(ctx).schedule
        except CanNotHeal as why:
            return Verdict.inconclusive(f"{rerun_line}, but when it is due next is not known: {why.reason}")
        if schedule is None:
            return Verdict.healthy(rerun_line)
        now = ctx.now()
        due = from_epoch_ms(ctx.last_effect_at or epoch_ms(now))
        for _ in range(_RUNS_TO_WAIT_FOR):
            after, due = due, schedule.next_after(due)
            slack = timedelta(seconds=2, milliseconds=2 * rerun.duration_ms) + min(timedelta(minutes=1), (due - after) / 10)
            if due + slack > now:
                return Wait(due + slack - now, "until the next run by schedule has ended")
        return Verdict.inconclusive(f"{rerun_line}, but no run by schedule was seen to succeed in {_RUNS_TO_WAIT_FOR} times")

    async def escalate(self, ctx: RemediationContext) -> Escalation:
        default = await super().escalate(ctx)
        options: VolatilePathOptions = ctx.options
        actions: tuple[str, ...]
        if ready := consent(ctx, self.spec.id):
            actions = (ready,)
        else:
            actions = (
                "Put the file into the repository, and let the script find it relative to itself: Path(__file__).resolve().parent.",
                "Then close or reopen the incident.",
            )
            if ctx.finding is None or any(part in ctx.finding.reason for part in UNKNOWN):
                told = f"options content, regenerate or backups (kept in folder {options.folder!r})"
                actions = (actions[0], f"Or tell the runbook where the content is: {told}.", actions[1])
        return Escalation(title=f"the job {printable(ctx.event.subject)} misses a file", analysis=default.analysis, actions=actions)


async def _prove(ctx: RemediationContext) -> _Proven:
    job = job_of(ctx)
    claim = claim_of(ctx.event.evidence, job)
    missing = [check_gone(ctx, claim.missing, job)]
    remembered = _remembered(ctx)
    repository, change = await _built(ctx, job, claim, remembered.get("missing", missing))
    if remembered.get("digest") == change.digest:
        return _Proven(job, repository, change, tuple(remembered["seen"]))
    trials = Trials(ctx, repository, job)
    seen = [await trials.reproduce(missing[0])]
    for _ in range(_MOST_FILES):
        tried = await trials.prove(change.files, change.added, [item.place for item in change.kept], missing)
        if not tried.missing:
            seen.append(tried.line)
            _remember(ctx, missing, change, seen)
            return _Proven(job, repository, change, tuple(seen))
        missing.append(check_gone(ctx, tried.missing, job))
        change = await build(ctx, repository, claim, missing)
    raise CanNotHeal(f"more than {_MOST_FILES} files are gone: {printable(', '.join(missing))}")


async def _built(ctx: RemediationContext, job: Job, claim: Claim, missing: Sequence[str]) -> tuple[Repository, Change]:
    """The change, in the repository of the job's folder or, if there is none to be made there, of a script in the traceback."""
    folders = work_trees([job.cwd, *(file.parent for file in claim.files)])
    if not folders:
        raise CanNotHeal(f"neither {printable(str(job.cwd))} nor a file of the traceback is in a git repository")
    refusals = []
    for folder in folders[:_MOST_REPOSITORIES]:
        try:
            repository = await Repository.holding(ctx, folder)
            ctx.confined(repository.top)
            if any(path.startswith(f"{repository.top}/") for path in missing):
                raise CanNotHeal(f"{printable(missing[0])} lies in the repository itself; restore it from there")
            return repository, await build(ctx, repository, claim, missing)
        except OutsideRoots as error:
            refusals.append(CanNotHeal(str(error)))
        except CanNotHeal as why:
            refusals.append(why)
    raise refusals[0]


def _remembered(ctx: RemediationContext) -> dict[str, Any]:
    """What an earlier step of this attempt proved, if its scratch folder is still there: it need not be proven twice."""
    try:
        remembered: dict[str, Any] = json.loads((ctx.scratch / _TRIED).read_text())
    except (OSError, ValueError):
        return {}
    return remembered


def _remember(ctx: RemediationContext, missing: Sequence[str], change: Change, seen: Sequence[str]) -> None:
    (ctx.scratch / _TRIED).write_text(json.dumps({"missing": list(missing), "digest": change.digest, "seen": list(seen)}))


async def _stored(ctx: RemediationContext, files: Mapping[str, bytes]) -> tuple[tuple[str, str | BlobRef], ...]:
    """Small texts stand in the plan, where people and the redactor see them; the rest goes to the blob store."""
    contents: list[tuple[str, str | BlobRef]] = []
    room = _INLINE
    for name, data in sorted(files.items()):
        text = _text(data) if len(data) <= room else None
        if text is not None:
            room -= len(data)
            contents.append((name, text))
        else:
            file = ctx.scratch / "content"
            file.write_bytes(data)
            contents.append((name, await ctx.keep(file)))
    return tuple(contents)


def _text(data: bytes) -> str | None:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return None


def _rerun(ctx: RemediationContext) -> RerunOutput | None:
    for receipt in reversed(ctx.receipts):
        if receipt.kind == RerunJob.kind and receipt.output:
            try:
                return RerunOutput.model_validate_json(receipt.output)
            except ValidationError:
                return None
    return None


@hookimpl
def remediation_runbooks() -> Sequence[type[Runbook[Any]]]:
    return [VolatilePath]


@hookimpl
def remediation_effects() -> Sequence[type[Effect[Any, Any]]]:
    return [RerunJob]
