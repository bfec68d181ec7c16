"""What people may do to a runbook's lifecycle, and what is missing for it. Pure; see ``docs/specs/runbook-lifecycle.md``."""

from __future__ import annotations

from remediation.core.lifecycle import ACTIVE, RunbookRecord

Configured = str | None
"""The state that the configuration sets for a runbook; `None` if it sets none."""


def forbidden(record: RunbookRecord, code_digest: str, configured: Configured) -> str:
    """Why the runbook of `record` can't be promoted with the code of `code_digest`, whatever speaks for it; empty if it can."""
    if record.state == "quarantined":
        return (
            f"{record.id} is quarantined ({record.why}): find out why, `remediation runbooks release {record.id}`, then promote it"
        )
    if record.state == "deprecated" and record.code_digest == code_digest:
        return f"{record.id} is deprecated: {record.deprecated}"
    if configured is not None and configured != "live":
        return (
            f'[runbooks."{record.id}"] state = "{configured}" in remediation.toml would take the promotion back with the next start: '
            'take that line out, or write "live"'
        )
    if record.state == "live" and record.code_digest == code_digest:
        return f"{record.id} is live already ({record.why})"
    return ""


def evidence(record: RunbookRecord, code_digest: str) -> str:
    """What speaks for the code of `code_digest`, for people; empty if nothing is known of what it would do."""
    if record.code_digest != code_digest:
        return ""
    told = []
    if record.observed:
        plans = "plan" if record.observed == 1 else "plans"
        told.append(
            f"it observed {record.observed} {plans}; {record.would_act} would have been applied at once, "
            f"{record.observed - record.would_act} after a person's consent"
        )
    if record.state in ACTIVE and record.attempts:
        told.append(f"it healed in {record.healed} of {record.attempts} attempts, and failed in {record.failed}")
    return "; ".join(told)


def without_evidence(id_: str) -> str:
    """What is missing when nothing speaks for a runbook."""
    return (
        f"no plan of {id_} with this code was observed yet, so nobody knows what it would do. Let it observe, or look at "
        f"`remediation runbooks replay {id_} --since 30d`; --without-evidence promotes it all the same, and is journaled"
    )


def needs(record: RunbookRecord, configured: Configured, *, essential: bool) -> str:
    """What has to happen before the runbook of `record` acts; empty if it may."""
    if configured == "quarantined":
        return f'[runbooks."{record.id}"] state = "quarantined" in remediation.toml has to go, then a release and a promotion'
    if record.state == "quarantined":
        consent = " (it is essential: with the signed consent of a person, too)" if essential else ""
        return f"`remediation runbooks release {record.id}`{consent}, then a promotion"
    if record.state in ACTIVE:
        return ""
    stands = forbidden(record, record.code_digest, configured)
    if stands:
        return stands
    if not evidence(record, record.code_digest):
        return f"observed plans as evidence, then `remediation runbooks promote {record.id}`"
    return f"`remediation runbooks promote {record.id}`"
