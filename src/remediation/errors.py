"""
Every exception that this package raises on purpose.

A message says what happened, why, and what to do next. The tree::

    RemediationError
     ├─ ConfigurationError          a setting, key file or home that can't be used as it is
     │   └─ RegistrationError       a plugin, runbook, effect or sentinel that is refused
     ├─ InvalidEvent                a degradation that can't be accepted even after cleaning
     ├─ OutsideRoots                a path that the host may not touch
     ├─ ContextSealed               a RemediationContext used after its attempt, or elsewhere
     ├─ ApprovalRefused             an answer to a request for consent that does not count
     ├─ GrantRefused                a grant of trust that does not count, or is not there
     ├─ LifecycleRefused            a runbook that can't be promoted, quarantined or released so
     ├─ CredentialRefused           a secret that was not declared, or is not there
     ├─ EffectError                 an effect could not do its work
     │   ├─ EffectConflict          the world is no longer as it was when the plan was made
     │   └─ EffectRefused           the effect is not allowed at all
     ├─ ProcessError                a command could not be started, or overran its limits
     ├─ JournalError
     │   ├─ JournalUnavailable      can't be opened or written now; stop acting
     │   ├─ JournalDamaged          what is stored can't be what was signed
     │   ├─ JournalRolledBack       the database is behind a head that is known to exist
     │   ├─ JournalTooNew           written by a newer format
     │   ├─ EntryArchived           an entry was moved to a file
     │   ├─ ExpectationFailed       the stream is not at the expected version
     │   ├─ GuardRefused            a guard, evaluated inside the append, said no
     │   └─ IdConflict              the same event id came with other content
     ├─ LeaseError
     │   ├─ LeaseUnavailable        the store of a lease can't tell who has it
     │   ├─ LeaseLost               asked to lead without leading
     │   └─ StaleToken              a write of somebody who leads no longer
     ├─ NotCanonical                a value outside the journal's JSON domain
     └─ HostStopped                 asked of a host that is not running

This module must not import anything of the package.
"""

from __future__ import annotations


class RemediationError(Exception):
    """Root of all exceptions that the package raises on purpose."""


class ConfigurationError(RemediationError):
    """A setting, key file or home directory can't be used as it is."""


class RegistrationError(ConfigurationError):
    """A plugin, runbook, effect or sentinel is refused; the message names it and the reason."""


class InvalidEvent(RemediationError):
    """A degradation can't be accepted, even after cleaning: code, subsystem or severity is malformed."""


class OutsideRoots(RemediationError):
    """A path leads outside the roots that the operator allowed, or through a link."""


class ContextSealed(RemediationError):
    """A RemediationContext was used after its attempt ended, past its deadline, or in another process."""


class ApprovalRefused(RemediationError):
    """An answer to a request for consent does not count: about something else, too late, a second one, or not signed as it must be."""


class GrantRefused(RemediationError):
    """A grant of trust does not count: beyond what can be granted, for other code, too late, a second time, or not signed as it must be."""


class LifecycleRefused(RemediationError):
    """A runbook can't be moved to that state of its lifecycle, or not by this alone; the message says what is missing."""


class CredentialRefused(RemediationError):
    """A credential was asked for that the runbook did not declare, or that the vault does not hold."""


class EffectError(RemediationError):
    """An effect could not do its work; whether it did part of it is for its probe to say."""


class EffectConflict(EffectError):
    """The before-state recorded at prepare is no longer that of the world; nothing was changed."""


class EffectRefused(EffectError):
    """The effect asks for something that is never allowed here; nothing was changed."""


class ProcessError(RemediationError):
    """A child process could not be started, or was ended because it overran a limit."""


class JournalError(RemediationError):
    """Root of the journal's errors."""


class JournalUnavailable(JournalError):
    """
    The journal can't be opened or written now; stop acting.

    An append that failed so is not stored, unless the answer to its COMMIT was lost: repeat it with the same event id to find out.
    """


class JournalDamaged(JournalError):
    """What is stored can't be what was signed."""


class JournalRolledBack(JournalDamaged):
    """The database is behind a signed head that is known to exist; it must never be continued."""


class JournalTooNew(JournalError):
    """The database was written by a newer format than this version reads."""


class EntryArchived(JournalError):
    """An entry is not in the journal any more: it was moved to a file, which the message tells how to find."""


class ExpectationFailed(JournalError):
    """The stream is not at the version that the caller expected; nothing was appended."""


class GuardRefused(JournalError):
    """The guard of an append, evaluated inside its transaction, refused; nothing was appended."""


class IdConflict(JournalError):
    """An entry with this event id exists with other content; nothing was appended."""


class LeaseError(RemediationError):
    """Root of what is raised about leases."""


class LeaseUnavailable(LeaseError):
    """The store of a lease, or a register of tokens, can't be read or written now; who leads can't be told."""


class LeaseLost(LeaseError):
    """Something that only the leader may do was asked of a host that does not lead, or no longer."""


class StaleToken(LeaseError):
    """A write came with the token of somebody who leads no longer; nothing may be written."""


class NotCanonical(RemediationError):
    """A value lies outside the journal's JSON domain (RFC 8785, restricted)."""


class HostStopped(RemediationError):
    """The host is not running (not started, stopped, or failed closed)."""
