"""Moments that people write on the command line."""

from __future__ import annotations

from datetime import UTC, datetime

from remediation.cli import output
from remediation.model.base import epoch_ms, parse_duration


def past(option: str, text: str | None) -> datetime | None:
    """
    A time, or a duration before now; leaves with exit code 2 if `text` is neither.

    A time without zone is one of this machine's.
    """
    if text is None:
        return None
    try:
        return datetime.now(UTC) - parse_duration(text)
    except (ValueError, OverflowError):
        pass
    try:
        moment = datetime.fromisoformat(text)
        return (moment if moment.tzinfo else moment.astimezone()).astimezone(UTC)
    except (ValueError, OverflowError):
        output.fail(
            f"{option} {text}: neither a time such as 2026-01-31T18:00Z nor a duration such as 2h", output.ExitCode.WRONG_USE
        )


def coming(option: str, text: str) -> int:
    """
    Milliseconds since 1970 UTC of a time that is to come, or of a duration from now; leaves with exit code 2 if `text` is neither.

    A time without zone is one of this machine's.
    """
    try:
        return epoch_ms(datetime.now(UTC) + parse_duration(text))
    except (ValueError, OverflowError):
        pass
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        output.fail(
            f"{option} {text}: neither a time such as 2030-01-31T18:00Z nor a duration such as 2h", output.ExitCode.WRONG_USE
        )
    if moment.tzinfo is None:
        moment = moment.astimezone()
    if moment <= datetime.now(UTC):
        output.fail(f"{option} {text}: that is in the past", output.ExitCode.WRONG_USE)
    return epoch_ms(moment)
