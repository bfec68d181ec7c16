"""A runbook for lock files whose process is gone, as a plugin of one module."""

from remediation.authoring import (
    DeleteFile,
    Finding,
    Handles,
    Plan,
    RemediationContext,
    Runbook,
    RunbookSpec,
    Verdict,
    hookimpl,
)

__proposal_derived_from__ = "0001-stale-lock-file"


def parse_pid(text: str) -> int | None:
    text = text.strip()
    return int(text) if text.isascii() and text.isdigit() and 0 < len(text) <= 10 else None


class StaleLockFile(Runbook):
    spec = RunbookSpec(
        id="stale-lock-file",
        handles=(Handles(code="LOCK_STALE"),),  # codes; optional subsystem / subject globs
        blast_radius="process",  # process | machine | fleet
        reversibility="reversible",  # reversible | disposable | partial | irreversible
        level="patch",  # recovery | patch | heal  (retry / symptom / cause)
        tier="none",  # model tier: none | small | large
        credentials=(),  # names the vault must hold
        sustain="0s",
    )

    async def precondition(self, ctx: RemediationContext) -> Finding:
        lock = ctx.subject_path()  # inside the allowed roots, or the runbook declines
        if not await ctx.exists(lock):
            return Finding.declined("the lock is gone")
        pid = parse_pid(await ctx.read_text(lock))
        if pid is None:
            return Finding.declined("not a pid file")
        if ctx.process_alive(pid):
            return Finding.declined(f"{pid} is alive")
        return Finding.applies(confidence=95, evidence=[f"pid {pid} is gone"])

    async def action(self, ctx: RemediationContext) -> Plan:
        return Plan(DeleteFile(path=ctx.subject_path()))

    async def verify(self, ctx: RemediationContext) -> Verdict:
        return Verdict.failed("still there") if await ctx.exists(ctx.subject_path()) else Verdict.healthy()

    # escalate(ctx) -> Escalation has a good default


@hookimpl
def remediation_runbooks():
    return [StaleLockFile]
