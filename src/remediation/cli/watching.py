"""The watchdog at work: looks at the beats of a home's hosts, tells what changes, and runs a command when they fall silent."""

from __future__ import annotations

import asyncio
import json as json_module
import os
import shutil
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from remediation.cli import output
from remediation.cli.service_manager import ServiceManager
from remediation.coordination.beats import Beat, Verdict, beats_in, judge, monotonic_ms
from remediation.coordination.processes import run_process
from remediation.errors import ProcessError
from remediation.model.base import parse_duration, timestamp
from remediation.model.text import ending
from remediation.ports.clock import SystemClock
from remediation.settings.home import Home

LONGEST = 3600.0
"""Seconds between two runs of the command, at most."""
PATIENCE = 60.0
"""Seconds that the command has."""
_LOOKS = 10
"""Looks in the time that a host may be silent."""
_SHORTEST = 2.0
"""Seconds: a host beats once a second."""


def seconds(option: str, text: str) -> float:
    """A duration of the command line; leaves with exit code 2 if it is none, or too short to mean anything."""
    try:
        found = parse_duration(text).total_seconds()
    except (ValueError, OverflowError):
        output.fail(f"{option} {text}: not a duration such as 30s or 2m", output.ExitCode.WRONG_USE)
    if found < _SHORTEST:
        output.fail(f"{option} {text}: too short; a host beats once a second, so take 2s at least", output.ExitCode.WRONG_USE)
    return found


def runnable(argv: Sequence[str]) -> tuple[str, ...]:
    """`argv`; leaves with exit code 2 if there is no such program now: not only at three in the morning."""
    if not argv:
        output.fail("--command wants a program and its arguments behind it", output.ExitCode.WRONG_USE)
    if shutil.which(argv[0]) is None:
        output.fail(f"--command {argv[0]}: there is no such program that this user may run", output.ExitCode.WRONG_USE)
    return tuple(argv)


class Watch:
    """
    The watch over one home's hosts.

    Args:
        home: The home.
        after: Seconds that a host may be silent.
        argv: What to run when one is; empty for nothing.
        json: Tell in JSON.

    """

    def __init__(self, home: Home, *, after: float, argv: Sequence[str] = (), json: bool = False) -> None:
        self._home = home
        self._after = after
        self._argv = tuple(argv)
        self._json = json
        # CLOCK_MONOTONIC in milliseconds. A first look believes what it sees: no file means that no host is there, since ever.
        self._since = self._well = -round(after * 1000) - 1
        """What lies before the former was not watched; at the latter, a host was seen that was well."""
        self._state = ""
        self._runs = 0
        self._next_run = 0.0

    async def once(self) -> bool:
        """Look once, and run the command if need be; returns whether the hosts are well."""
        verdict = self._look()
        self._tell(verdict)
        if verdict.state == "well":
            return True
        await self._run(verdict)
        return False

    async def until_stopped(self) -> bool:
        """Watch until SIGTERM, SIGINT or SIGHUP."""
        stopped = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            if signal.getsignal(number) is not signal.SIG_IGN:
                loop.add_signal_handler(number, stopped.set)
        manager = ServiceManager()
        manager.ready(f"watches {self._home.root}")
        watching = asyncio.create_task(self._watch(manager))
        asked = asyncio.create_task(stopped.wait())
        await asyncio.wait({watching, asked}, return_when=asyncio.FIRST_COMPLETED)
        manager.stopping()
        watching.cancel()
        asked.cancel()
        result, _ = await asyncio.gather(watching, asked, return_exceptions=True)
        if isinstance(result, Exception):
            raise result
        return True

    async def _watch(self, manager: ServiceManager) -> None:
        pause = min(self._after / _LOOKS, manager.beat_every or self._after)
        self._since = self._well = before = monotonic_ms()
        while True:
            now = monotonic_ms()
            if now - before > 1000 * (pause + max(1.0, pause)):
                # This process was stopped itself, perhaps the hosts with it: they get the time anew.
                self._since = now
            before = now
            manager.beat()
            await self._judge()
            if monotonic_ms() - before > 1000:
                before = monotonic_ms()  # the command took its time; nobody was kept from beating by that
            await asyncio.sleep(pause)

    async def _judge(self) -> None:
        verdict = self._look()
        if verdict.state != self._state and (verdict.state != "well" or verdict.hosts):
            self._tell(verdict)
            self._state = verdict.state
        silence = verdict.silence_ms / 1000
        if verdict.state == "well":
            self._runs = 0
            self._next_run = 0.0
        elif silence >= self._next_run:
            self._runs += 1
            await self._run(verdict)
            self._next_run = silence + min(LONGEST, self._after * 2**self._runs)

    def _look(self) -> Verdict:
        now = monotonic_ms()
        verdict = judge(
            beats_in(self._home.hosts), now_ms=now, since_ms=self._since, well_ms=self._well, after_ms=round(self._after * 1000)
        )
        if verdict.state == "well" and verdict.hosts:
            self._well = now
        return verdict

    async def _run(self, verdict: Verdict) -> None:
        if not self._argv:
            return
        said = json_module.dumps(self._document(verdict)) + "\n"
        try:
            ran = await run_process(self._argv, timeout=PATIENCE, cwd=Path.cwd(), env=dict(os.environ), stdin=said.encode())
        except ProcessError as error:
            self._event("command", f"the command failed: {error}", exit_code=None)
            return
        said = ending((ran.stderr or ran.stdout).strip(), 300)
        text = f"ran {self._argv[0]}: exit status {ran.exit_code}" + (f", {said}" if said else "")
        self._event("command", text, exit_code=ran.exit_code)

    def _tell(self, verdict: Verdict) -> None:
        if verdict.state == "well":
            text = "; ".join(_shown(beat) for beat in verdict.hosts)
        elif verdict.state == "silent":
            text = "; ".join(f"{_shown(beat)} has not beaten for {_span(beat, verdict)}" for beat in verdict.hosts)
        else:
            gone = "; ".join(f"{_shown(beat)} is gone" for beat in verdict.hosts)
            text = f"no host of {self._home.root} runs" + (f": {gone}" if gone else "")
        self._event(verdict.state, f"{verdict.state}: {text}", **self._document(verdict))

    def _event(self, event: str, text: str, **more: Any) -> None:
        if self._json:
            output.say_json({"time": timestamp(SystemClock().now()), "event": event, "text": text, **more})
        else:
            output.say(text)
        output.flush()

    def _document(self, verdict: Verdict) -> dict[str, Any]:
        hosts = [
            {"host": beat.host, "instance": beat.instance, "pid": beat.pid, "process": beat.state(), "ready_at": beat.ready_at}
            for beat in verdict.hosts
        ]
        return {
            "state": verdict.state,
            "home": str(self._home.root),
            "silence_ms": min(verdict.silence_ms, monotonic_ms()),
            "runs": self._runs,
            "hosts": hosts,
        }


def _shown(beat: Beat) -> str:
    state = {"T": ", stopped by a signal", "t": ", traced", "D": ", waits for a device"}.get(beat.state(), "")
    return f"host {beat.host} (pid {beat.pid}{state})"


def _span(beat: Beat, verdict: Verdict) -> str:
    return f"{min(beat.silence(monotonic_ms()), verdict.silence_ms) / 1000:.1f} s"
