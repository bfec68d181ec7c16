"""Diffs for people: unified, bounded, and safe to print."""

from __future__ import annotations

import difflib
from pathlib import Path

from remediation.effects.fields import shown
from remediation.effects.filestate import FileState
from remediation.model.text import capped, printable

DIFF_CAP = 16 * 1024
TEXT_CAP = 64 * 1024
"""Longer contents are not compared line by line: it would take too long, and nobody would read it."""


def file_diff(path: Path, before: FileState, after: FileState, old: bytes | None, new: bytes | None) -> str:
    """
    What changes at `path`, at most 16 KiB.

    Args:
        path: For the header.
        before: The state that is expected.
        after: The state that will be.
        old: Content before; `None` if it is absent, or too large to be shown.
        new: Content after, likewise.

    """
    name = shown(path)
    head = [f"--- {name}" if before.exists else "--- /dev/null", f"+++ {name}" if after.exists else "+++ /dev/null"]
    if before.exists and after.exists and before.mode != after.mode:
        head.insert(0, f"mode {before.mode:04o} becomes {after.mode:04o}")
    if before.sha256 == after.sha256 and before.exists == after.exists:
        return "\n".join(head[:-2]) + "\n" if len(head) > 2 else ""
    left, right = _lines(before, old), _lines(after, new)
    if left is None or right is None:
        body = [f"-{before.told()}"] * before.exists + [f"+{after.told()}"] * after.exists
    else:
        body = _compared(left, right)
    return capped(printable("\n".join(head + body), newlines=True) + "\n", DIFF_CAP)


def _compared(left: list[str], right: list[str]) -> list[str]:
    lines = []
    for line in list(difflib.unified_diff(left, right, n=3))[2:]:
        lines.append(line.removesuffix("\n"))
        if not line.endswith("\n"):
            lines.append("\\ No newline at end of file")
    return lines


def _lines(state: FileState, content: bytes | None) -> list[str] | None:
    """The lines of a text; `None` for what is no text or too large."""
    if not state.exists:
        return []
    if content is None or len(content) > TEXT_CAP or b"\0" in content:
        return None
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        return None
    return [line + "\n" for line in text.split("\n")[:-1]] + [last for last in (text.rsplit("\n", 1)[-1],) if last]
