"""What the engine lends to runbooks and effects for one attempt: scratch, processes under the attempt's lock, secrets."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import structlog

from remediation.context import Services
from remediation.coordination.processes import run_process
from remediation.engine.conduct import Conduct, ours_to_do
from remediation.errors import CredentialRefused
from remediation.model.entries import CredentialUsed
from remediation.model.redaction import Redactor
from remediation.model.runbook import RunbookSpec
from remediation.ports.clock import Clock
from remediation.ports.effect import BlobStore, Completed, Control, Disposable, EffectKinds, Roots, SecretRef
from remediation.ports.locking import HeldLock


@dataclass(frozen=True, slots=True)
class World:
    """The parts of the world that a host lends: one value, wired by the bootstrap."""

    clock: Clock
    roots: Roots
    blobs: BlobStore
    disposable: Disposable
    controls: Mapping[str, Control]
    kinds: EffectKinds
    scratch: Path
    secrets: Mapping[str, str]
    host_descriptor: int
    instance: str
    redactor: Redactor = field(default_factory=Redactor)
    conduct: Conduct = field(default_factory=Conduct)


@dataclass(slots=True)
class Loan:
    """What one attempt was lent. `close` takes it back."""

    world: World
    spec: RunbookSpec | None
    """`None` when the runbook is no longer registered: then there are no secrets."""
    attempt: str
    lock: HeldLock
    used: list[CredentialUsed] = field(default_factory=list)
    """Credentials read since the last commit; the next one journals them."""
    _scratch: Path | None = None

    @property
    def runbook(self) -> str:
        """Id of the runbook; empty when it is no longer registered."""
        return self.spec.id if self.spec is not None else ""

    def services(self) -> Services:
        """What a context is given."""
        world = self.world
        return Services(
            clock=world.clock,
            roots=world.roots,
            blobs=world.blobs,
            disposable=world.disposable,
            controls=frozenset(world.controls),
            run=self.run,
            secret=self.secret,
            make_scratch=self.scratch,
        )

    def scratch(self) -> Path:
        """The attempt's private folder."""
        if self._scratch is None:
            self._scratch = self.world.scratch / self.attempt
            with ours_to_do():
                self._scratch.mkdir(mode=0o700, parents=True, exist_ok=True)
        return self._scratch

    def secret(self, ref: SecretRef | str) -> str:
        """The value of a declared secret; see `RemediationContext.secret`."""
        name = ref.secret if isinstance(ref, SecretRef) else ref
        if self.spec is None or name not in self.spec.credentials:
            raise CredentialRefused(f"{self.runbook or 'the runbook'} did not declare the credential {name!r}; add it to its spec")
        with ours_to_do():
            value = self.world.secrets.get(name)
        if value is None:
            raise CredentialRefused(f"this host has no credential {name!r}; `remediation secrets set {name}` gives it one")
        self.used.append(CredentialUsed(name=name, runbook=self.runbook, attempt=self.attempt))
        return value

    async def run(
        self,
        argv: Sequence[str],
        *,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        stdin: bytes | None = None,
        timeout: float | None = None,
    ) -> Completed:
        """Run a command that inherits the attempt's and the host's lock."""
        seconds = 60.0 if timeout is None else timeout
        deadline = self.world.clock.monotonic() + seconds

        def started(pid: int) -> None:
            self.lock.record_child(pid, deadline)

        inherit = [descriptor for descriptor in (*self.lock.descriptors, self.world.host_descriptor) if descriptor >= 0]
        with ours_to_do():
            marked = {**(env or {}), **self.lock.expect_child(deadline)}
            return await run_process(argv, timeout=seconds, cwd=cwd, env=marked, stdin=stdin, inherit=inherit, started=started)

    def close(self) -> None:
        """Remove the scratch folder."""
        if self._scratch is not None:
            shutil.rmtree(self._scratch, ignore_errors=True)
            self._scratch = None


@dataclass(slots=True)
class LentToEffect:
    """See `remediation.ports.effect.EffectContext`."""

    key: str
    deadline: float
    clock: Clock
    roots: Roots
    blobs: BlobStore
    controls: Mapping[str, Control]
    disposable: Disposable
    log: structlog.typing.FilteringBoundLogger
    _loan: Loan

    def secret(self, ref: SecretRef | str) -> str:
        """See `Loan.secret`."""
        return self._loan.secret(ref)

    async def run(self, argv: Sequence[str], **options: Any) -> Completed:
        """See `Loan.run`; the default timeout is what is left until the deadline."""
        left = max(0.0, self.deadline - self.clock.monotonic())
        wanted = options.pop("timeout", None)
        return await self._loan.run(argv, timeout=left if wanted is None else min(wanted, left), **options)


def lend_to_effect(loan: Loan, key: str, seconds: float, log: structlog.typing.FilteringBoundLogger) -> LentToEffect:
    """The context of one effect, valid for `seconds`."""
    world = loan.world
    return LentToEffect(
        key=key,
        deadline=world.clock.monotonic() + seconds,
        clock=world.clock,
        roots=world.roots,
        blobs=world.blobs,
        controls=world.controls,
        disposable=world.disposable,
        log=log,
        _loan=loan,
    )
