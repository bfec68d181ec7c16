"""What `doctor` says of consent: whether anybody may give it, whether the host could give it to itself, and what is about to expire."""

from __future__ import annotations

import os
import pwd
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from remediation.core import consent
from remediation.core.state import HostState
from remediation.engine.approvals import pending
from remediation.errors import ConfigurationError
from remediation.keys.ssh import AllowedSigner, AllowedSigners, private_key_in_reach
from remediation.model.text import printable
from remediation.settings import Settings

_SOON_MS = 3_600_000
"""A request that expires within this time is about to expire."""

Said = tuple[Literal["ok", "warning", "problem"], str, str]
"""Level, message, and how to mend it."""


def look_at_signers(settings: Settings) -> Iterator[Said]:
    """What there is to say of who may consent."""
    file = settings.approvals.allowed_signers
    if settings.approvals.allow_local:
        yield (
            "warning",
            "[approvals] allow_local = true: a key counts that the host's own user can read: the host could consent to its own plans",
            "sign where the host can't (docs/howto/approve-plans.md), and take allow_local out",
        )
    if file is None:
        yield "ok", "nobody may consent: what asks is given to people as escalated ([approvals] allowed_signers is not set)", ""
        return
    try:
        signers = AllowedSigners.load(file).signers
    except ConfigurationError as error:
        yield "problem", f"nobody can consent, and what asks waits in vain: {error}", f"edit {file}"
        return
    able = [line for line in signers if consent.NAMESPACE in line.namespaces]
    now = datetime.now(UTC)
    if not able:
        what = "names nobody" if not signers else f"has no line with the namespace {consent.NAMESPACE}"
        yield "problem", f"nobody can consent, and what asks waits in vain: {file} {what}", f"add a person's line to {file}"
        return
    valid = [line for line in able if not _timed_out(line, now)]
    for line in able:
        if line not in valid:
            yield (
                "warning",
                f"the key of {printable(line.principal)} in {file} does not count now: {_timed_out(line, now)}",
                f"edit {file}",
            )
    yield from _in_reach(settings, valid)
    if valid:
        own = file.stat().st_uid == settings.home.root.stat().st_uid != 0
        hint = f" (the host's own user could add to {file}: let root own it)" if own else ""
        yield "ok", f"{', '.join(sorted({printable(line.principal) for line in valid}))} may consent{hint}", ""
    else:
        yield "problem", "nobody can consent now, and what asks waits in vain", f"add a person's line to {file}"


def look_at_requests(state: HostState) -> Iterator[Said]:
    """What there is to say of plans that wait for consent."""
    now = round(time.time() * 1000)
    waiting = sorted((request.approval for request in pending(state)), key=lambda approval: approval.not_after)
    if not waiting:
        return
    yield "ok", f"{len(waiting)} wait for consent", "remediation approvals"
    over = [approval for approval in waiting if approval.not_after <= now]
    soon = [approval for approval in waiting if now < approval.not_after <= now + _SOON_MS]
    if over:
        yield "warning", f"{len(over)} of them expired unanswered; the host has not noted it yet", "remediation run"
    if soon:
        minutes = (soon[0].not_after - now) // 60_000
        yield (
            "warning",
            f"{len(soon)} of them expire within the hour, the first in {minutes} minutes",
            f"remediation approvals show {soon[0].id}",
        )


def _timed_out(line: AllowedSigner, now: datetime) -> str:
    if line.valid_after is not None and now < line.valid_after:
        return f"it is valid from {line.valid_after:%Y-%m-%d}"
    if line.valid_before is not None and now > line.valid_before:
        return f"it was valid until {line.valid_before:%Y-%m-%d}"
    return ""


def _in_reach(settings: Settings, lines: list[AllowedSigner]) -> Iterator[Said]:
    places = _places(settings)
    for line in lines:
        near = private_key_in_reach(line.key, places)
        if near is None:
            continue
        allowed = settings.approvals.allow_local
        what = "the host could consent in that name" if allowed else "a signature with it is refused"
        yield (
            "warning",
            f"the private key of {printable(line.principal)} lies in {printable(str(near.path))}, within the host's reach: {what}",
            "move that key to a machine of its owner's, or use one on a hardware token",
        )


def _places(settings: Settings) -> list[Path] | None:
    """Where the host's user, who may be another one than who asks, has keys."""
    owner = settings.home.root.stat().st_uid
    if owner == os.geteuid():
        return None
    try:
        return [Path(pwd.getpwuid(owner).pw_dir) / ".ssh"]
    except KeyError:
        return []
