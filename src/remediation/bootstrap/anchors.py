"""The anchors of a host: those of its settings, and those that plugins bring."""

from __future__ import annotations

import asyncio
import importlib.metadata
from collections.abc import Iterable, Sequence
from typing import Any

from remediation.anchors.command import CommandAnchor
from remediation.anchors.file import FileAnchor
from remediation.anchors.git import GitAnchor
from remediation.discovery import discover
from remediation.errors import RegistrationError
from remediation.hooks import PROJECT
from remediation.model.text import capped, printable
from remediation.ports.anchor import Anchor
from remediation.proof.anchored import Anchored
from remediation.settings import Settings
from remediation.settings.anchors import AnchorTable

NO_READING_BACK = "it can't be read back"
"""Said of an anchor of a kind that can't be."""


def anchors_of(settings: Settings, brought: Iterable[Anchor] = ()) -> list[Anchor]:
    """
    All anchors, those of the settings first.

    Raises:
        RegistrationError: two have one name, or one that a plugin brought is none.

    """
    tables = settings.anchors
    anchors: list[Anchor] = [FileAnchor(table.path, history=table.history, **_shared(table)) for table in tables.file]
    anchors += [CommandAnchor(table.command, settings.base, **_shared(table)) for table in tables.command]
    anchors += [GitAnchor(table.repository, ref=table.ref, remote=table.remote, **_shared(table)) for table in tables.git]
    for anchor in brought:
        if not isinstance(anchor, Anchor):
            raise RegistrationError(f"{anchor!r} is no anchor: one has name, every, timeout, keep and heads")
        if not anchor.every >= 1 or not anchor.timeout > 0:
            raise RegistrationError(f"the anchor {printable(anchor.name)}: every must be at least 1 s, timeout more than nothing")
        anchors.append(anchor)
    seen: set[str] = set()
    for anchor in anchors:
        if anchor.name in seen:
            raise RegistrationError(f"there are two anchors named {printable(anchor.name)!r}; give one another name")
        seen.add(anchor.name)
    return anchors


def configured_anchors(settings: Settings) -> list[Anchor]:
    """
    All anchors of a home, for a command that reads them: plugins are loaded only if there are any.

    Raises:
        RegistrationError: a plugin can't be loaded, or see `anchors_of`.

    """
    some = settings.host.plugins or (settings.host.autoload is not False and importlib.metadata.entry_points(group=PROJECT))
    return anchors_of(settings, discover(settings).anchors() if some else ())


def _shared(table: AnchorTable) -> dict[str, Any]:
    return {"name": table.name, "every": table.every.total_seconds(), "timeout": table.timeout.total_seconds()}


async def read_anchors(anchors: Sequence[Anchor], seconds: float) -> tuple[list[Anchored], dict[str, str]]:
    """
    What can be read of `anchors`, all at the same time, and by name why the others can't be.

    Args:
        seconds: How long to wait for any of them at most.

    """

    async def read(anchor: Anchor) -> Anchored | str:
        try:
            async with asyncio.timeout(min(seconds, anchor.timeout)):
                notes = await anchor.heads()
        except TimeoutError:
            return f"it did not answer within {min(seconds, anchor.timeout):g} s"
        except Exception as error:
            return capped(printable(f"{error}" or type(error).__name__), 500)
        return NO_READING_BACK if notes is None else Anchored(anchor.name, tuple(notes))

    answers = await asyncio.gather(*(read(anchor) for anchor in anchors))
    found = [answer for answer in answers if isinstance(answer, Anchored)]
    return found, {anchor.name: answer for anchor, answer in zip(anchors, answers, strict=True) if isinstance(answer, str)}
