"""
RemediationContext: the envelope of one attempt, and the only thing a runbook's step is given.

This package must not change the world, and must not know who lends the context its services.
"""

from remediation.context.envelope import READ_CAP, RemediationContext
from remediation.context.given import Facts, IncidentView, PriorAttempt, Services

__all__ = ["READ_CAP", "Facts", "IncidentView", "PriorAttempt", "RemediationContext", "Services"]
