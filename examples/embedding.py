"""
A small mail service that heals itself: its delivery gets stuck, and it is resumed, verified and put on record.

    cd examples
    python embedding.py            settings: remediation.toml; the home: .remediation; mails: spool
    python embedding.py --linger   the same, then goes on until Ctrl-C, and takes in what others report

The service lends the host one function, `resume`. What is right to do about a stuck queue is the runbook's business; whether it may be
done, that it is done once, and what is told about it is the host's.
"""

import asyncio
import contextlib
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

from remediation import DegradationEvent, RemediatorBootstrap, Settings
from remediation.authoring import (
    CallHost,
    Finding,
    Handles,
    Plan,
    RemediationContext,
    Runbook,
    RunbookSpec,
    Verdict,
    Wait,
    hookimpl,
)


class Outbox:
    """Sends each file of the folder `waiting` by moving it to the folder `sent`, unless it is stuck."""

    def __init__(self, spool: Path) -> None:
        self.waiting, self.sent = spool / "waiting", spool / "sent"
        for folder in (self.waiting, self.sent):
            folder.mkdir(parents=True, exist_ok=True)
        self._running = asyncio.Event()
        self._running.set()

    @contextlib.asynccontextmanager
    async def delivering(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self._deliver())
        try:
            yield
        finally:
            task.cancel()

    async def _deliver(self) -> None:
        while True:
            await self._running.wait()
            for mail in sorted(self.waiting.iterdir()):
                mail.rename(self.sent / mail.name)
            await asyncio.sleep(0.05)

    def stick(self) -> None:
        self._running.clear()

    async def resume(self, queue: str) -> str:
        """The control. Resuming what runs changes nothing: it is idempotent."""
        self._running.set()
        return f"{queue} runs"


class ResumeQueue(Runbook):
    spec = RunbookSpec(
        id="resume-queue",
        handles=(Handles(code="QUEUE_STUCK", subsystem="mail"),),
        blast_radius="process",
        reversibility="disposable",
        level="recovery",
    )

    async def precondition(self, ctx: RemediationContext) -> Finding:
        if not ctx.has_control("resume"):
            return Finding.declined("this host lends no control 'resume'")
        waiting = await ctx.glob(f"{ctx.event.subject}/*")
        return (
            Finding.applies(confidence=90, evidence=[f"waiting: {len(waiting)}"]) if waiting else Finding.declined("nothing waits")
        )

    async def action(self, ctx: RemediationContext) -> Plan:
        return Plan(CallHost(control="resume", args={"queue": ctx.event.subject}), summary="resume the delivery")

    async def verify(self, ctx: RemediationContext) -> Verdict | Wait:
        waiting = await ctx.glob(f"{ctx.event.subject}/*")
        if not waiting:
            return Verdict.healthy("everything was sent")
        if ctx.now().timestamp() - ctx.last_effect_at / 1000 < 5:
            return Wait("200ms", f"still on the way: {len(waiting)}")
        return Verdict.failed(f"still waiting: {len(waiting)}")


class MailRunbooks:
    """The plugin: any object or module with hooks will do."""

    @hookimpl
    def remediation_runbooks(self) -> list[type[Runbook]]:
        return [ResumeQueue]


async def main(linger: bool) -> None:
    outbox = Outbox(Path("spool").absolute())
    boot = RemediatorBootstrap(Settings.load("remediation.toml"), plugins=[MailRunbooks()])
    boot.controls.register("resume", outbox.resume, idempotent=True)
    async with outbox.delivering(), boot.start() as host:
        asyncio.get_running_loop().add_signal_handler(signal.SIGINT, host.stop)
        outbox.stick()
        (outbox.waiting / "to-ada").write_text("Dear Ada")
        reported = await host.report(
            DegradationEvent(code="QUEUE_STUCK", subsystem="mail", subject=str(outbox.waiting), summary="nothing is sent")
        )
        incident = await host.wait_for(reported, timeout=60)
        print(f"{incident.status}: {incident.reason}", flush=True)
        print("sent:", *sorted(mail.name for mail in outbox.sent.iterdir()), flush=True)
        if linger:
            await host.stopped()


if __name__ == "__main__":
    asyncio.run(main("--linger" in sys.argv[1:]))
