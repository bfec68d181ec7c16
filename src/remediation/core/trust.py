"""
Trust beyond the profile: grants that people signed, and what a track record has earned.

The rule for earned trust, in full: under the profile ``collaborative``, a runbook that was verified to have healed `heals` times
by effects that stay within the process, without a failed verdict, fault, quarantine or change of code since, may also do what reaches the
machine. Heals that a person consented to, plan by plan or by a grant, count as those that it did alone. Under ``supervised`` a
person sees every plan, whatever was earned. Neither a grant nor a record ever lifts anything but the profile: what loses data, reaches
the fleet or is tagged as high-risk asks always (design, section 5).
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from remediation.core.gate import Profile
from remediation.core.lifecycle import RunbookRecord
from remediation.model.base import from_epoch_ms, timestamp
from remediation.model.entries import TrustGranted, TrustRevoked
from remediation.model.plan import PlanRecord
from remediation.model.runbook import Radius, Reversibility

RECORD = "record"
"""Stands for who gives trust that was earned."""


@dataclass(frozen=True, slots=True)
class Elevation:
    """An answer: who or what gives the trust (empty: nobody), and why, or why not."""

    by: str
    reason: str

    @property
    def granted(self) -> bool:
        """Whether the plan is trusted beyond the profile."""
        return bool(self.by)


class TrustElevationSource:
    """
    The one source of trust decisions.

    Args:
        earn_after: Verified heals after which a record counts; 0 for never.

    """

    def __init__(self, earn_after: int = 0) -> None:
        self._earn_after = earn_after

    def answer(
        self,
        grants: Mapping[str, TrustGranted],
        record: RunbookRecord,
        plan: PlanRecord,
        *,
        profile: Profile,
        subject: str,
        now: int,
    ) -> Elevation:
        """Whether `plan` of the runbook of `record`, about `subject`, is trusted beyond `profile` at `now` (milliseconds)."""
        refusals = []
        for grant in sorted(_of(grants.values(), record), key=lambda item: item.grant_id):
            why_not = _outside(grant, record, plan, subject, now)
            if not why_not:
                until = timestamp(from_epoch_ms(grant.not_after))
                return Elevation(grant.by, f"granted by {grant.by} until {until} ({grant.grant_id}): {grant.reason}")
            refusals.append(f"grant {grant.grant_id} {why_not}")
        earned = self._earned(record, plan, profile)
        if earned.granted:
            return earned
        return Elevation("", "; ".join([*refusals, earned.reason]))

    def _earned(self, record: RunbookRecord, plan: PlanRecord, profile: Profile) -> Elevation:
        if not self._earn_after:
            return Elevation("", "trust is not earned here ([trust] earn_after is 0)")
        if profile != "collaborative":
            return Elevation("", f"nothing can be earned under the profile {profile}")
        if plan.radius is not Radius.MACHINE or plan.reversibility.rank > Reversibility.DISPOSABLE.rank:
            return Elevation("", "only reversible and disposable plans that reach the machine can be earned")
        told = f"{record.clean} verified heals of lower reach since the last failure"
        if record.clean < self._earn_after:
            return Elevation("", f"{told}, {self._earn_after} are needed")
        return Elevation(RECORD, f"earned: {told}")


def _of(grants: Iterable[TrustGranted], record: RunbookRecord) -> Iterable[TrustGranted]:
    return (grant for grant in grants if grant.runbook == record.id)


def _outside(grant: TrustGranted, record: RunbookRecord, plan: PlanRecord, subject: str, now: int) -> str:
    if now >= grant.not_after:
        return "has expired"
    if grant.code_digest != record.code_digest:
        return "was given for other code"
    if not fnmatch.fnmatchcase(subject, grant.subjects):
        return f"is for {grant.subjects}"
    if plan.radius.rank > grant.radius.rank:
        return f"reaches the {grant.radius.value} only"
    if plan.reversibility.rank > grant.reversibility.rank:
        return f"is for {grant.reversibility.value} plans"
    return ""


def evolve_grants(grants: dict[str, TrustGranted], entry: TrustGranted | TrustRevoked) -> None:
    """Take in a grant, or its end."""
    if isinstance(entry, TrustGranted):
        grants[entry.grant_id] = entry
    else:
        grants.pop(entry.grant_id, None)
