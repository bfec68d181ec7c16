"""The log of a host that runs on the command line: lines on standard error, for people or for programs."""

from __future__ import annotations

import os
from collections.abc import Callable, MutableMapping
from typing import Any, TextIO

import structlog

from remediation.cli.output import is_terminal
from remediation.model.redaction import Redactor
from remediation.model.text import printable


def configure(stream: TextIO, *, json: bool, redactor: Callable[[], Redactor] = Redactor, level: str = "info") -> None:
    """
    Send the package's log from `level` on to `stream`: JSON lines if asked for, else ``time level event key=value …``; on a terminal
    aligned, and coloured unless ``NO_COLOR`` forbids it.

    Secrets are masked by what `redactor` returns, which is asked for each line: a host learns of more while it starts.
    """
    renderer: Any
    if json:
        renderer = structlog.processors.JSONRenderer(ensure_ascii=True)
    elif is_terminal(stream):
        # https://no-color.org: any value but an empty one.
        colors = not os.environ.get("NO_COLOR")
        renderer = structlog.dev.ConsoleRenderer(colors=colors, exception_formatter=structlog.dev.plain_traceback)
    else:
        renderer = structlog.processors.LogfmtRenderer(key_order=["timestamp", "level", "event"], bool_as_flag=False)
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            # Without the values of variables: those may be secrets.
            structlog.processors.format_exc_info,
            masking(redactor),
            _clean,
            renderer,
        ],
        logger_factory=structlog.WriteLoggerFactory(file=stream),
        wrapper_class=structlog.make_filtering_bound_logger(level),
        cache_logger_on_first_use=False,
    )


def masking(redactor: Callable[[], Redactor]) -> structlog.typing.Processor:
    """A processor that masks secrets in all values of a line; it goes behind what formats exceptions, and before what renders."""

    def mask(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        known = redactor()
        for key, value in known.json(dict(event)).items():
            # Of values that are no JSON, what a renderer would write counts.
            plain = value is None or isinstance(value, str | int | float | dict | list)
            event[key] = value if plain else known.text(str(value))
        return event

    return mask


def _clean(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    for key, value in event.items():
        if isinstance(value, str):
            event[key] = printable(value, newlines=key == "exception")
    return event
