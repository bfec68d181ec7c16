"""The message of the commit: what, why, by what evidence, and how to take it back."""

from __future__ import annotations

import textwrap

from remediation.context import RemediationContext
from remediation.model.text import capped, printable
from remediation.runbooks._volatile_path.change import Change
from remediation.runbooks._volatile_path.job import Job

_WIDTH = 72


def commit_message(ctx: RemediationContext, job: Job, change: Change, seen: tuple[str, ...]) -> str:
    """The message; every name in it is made printable."""
    first = change.kept[0]
    name = printable(first.missing.rsplit("/", 1)[1])
    more = f" and {len(change.kept) - 1} more" if len(change.kept) > 1 else ""
    title = capped(f"Find {name}{more} in the repository, not among temporary files", 100)
    why = f"The job {printable(job.name)} failed: it read a file from a place that the system cleans away, and the file was gone."
    what = (
        "Its content is kept in the repository now, and the script finds it relative to itself, whatever folder it is started in."
    )
    body = [f"{why} {what}"]
    for item in change.kept:
        where = f"already lies in {printable(item.place)}" if item.content.tracked else f"now lies in {printable(item.place)}"
        body.append(f"{printable(item.missing)} {where}. Source of the content: {item.content.source}.")
    for script, lines in change.lines.items():
        body.append(f"Changed: {printable(script)}, {'line' if len(lines) == 1 else 'lines'} {', '.join(map(str, lines))}.")
    body += [f"{line[0].upper()}{line[1:]}." for line in (*seen, *change.notes)]
    body.append("To take it back: git revert this commit.")
    paragraphs = [textwrap.fill(part, _WIDTH, break_long_words=False, break_on_hyphens=False) for part in body]
    trailers = f"Remediation-Incident: {ctx.incident.id}\nRemediation-Runbook: volatile-path"
    return "\n\n".join([title, *paragraphs, trailers]) + "\n"
