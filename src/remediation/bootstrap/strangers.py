"""Runbooks that the settings name and that are not there: no error, as a plugin may come later, but most often a slip of the pen."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterator

import structlog

from remediation.model.text import printable
from remediation.settings import Settings


def strangers(settings: Settings, known: Collection[str]) -> Iterator[tuple[str, str]]:
    """Each id in ``[runbooks.*]`` and ``[ladder]`` that is none of `known`: that it is none, and what was probably meant."""
    for name in sorted({*settings.runbooks, *settings.ladder.order}):
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            meant = f"did you mean {near[0]}?" if near else "`remediation runbooks` lists them"
            yield f"the settings name a runbook {printable(name)}, but there is none", meant


def warn_of_strangers(settings: Settings, known: Collection[str]) -> None:
    """Tell of `strangers` in the host's log."""
    log = structlog.get_logger("remediation.host")
    for message, meant in strangers(settings, known):
        log.warning(message, mend=meant)
