"""The registered runbooks: instances, refusals, code digests, and matching by an index on the code."""

from __future__ import annotations

import asyncio
import hashlib
import inspect
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from remediation.core import ladder
from remediation.core.tallies import STORM_SUBJECT
from remediation.errors import RegistrationError
from remediation.model.events import A_WORD, DegradationEvent, Provenance, is_word
from remediation.model.runbook import Radius, RunbookSpec
from remediation.model.text import printable, reason_of
from remediation.runbook import Runbook
from remediation.settings import plugged


@dataclass(frozen=True, slots=True)
class Registered:
    """One runbook as this host runs it."""

    runbook: Runbook[Any]
    spec: RunbookSpec
    options: BaseModel
    code_digest: str
    plugin: str


class Registry:
    """Runbooks by id and by code. Matching costs one dictionary look-up, whatever the number of runbooks."""

    def __init__(self, *, order: Sequence[str] = (), credentials: Collection[str] = ()) -> None:
        self._order = tuple(order)
        self._credentials = frozenset(credentials)
        self.runbooks: dict[str, Registered] = {}
        self.specs: dict[str, RunbookSpec] = {}
        self._by_code: dict[str, list[Registered]] = {}
        self.disabled: dict[str, str] = {}

    def add(self, kind: Any, *, options: Mapping[str, Any] | None = None, plugin: str = "") -> Registered:
        """
        Register `kind`, a runbook class.

        Raises:
            RegistrationError: refused; the message names the runbook and the reason.

        """
        name = getattr(kind, "__qualname__", repr(kind))
        if not inspect.isclass(kind) or not issubclass(kind, Runbook):
            raise RegistrationError(f"{name} is no Runbook: a hook returns classes that derive from remediation.authoring.Runbook")
        spec = getattr(kind, "spec", None)
        if not isinstance(spec, RunbookSpec):
            raise RegistrationError(f"runbook {name} has no spec: set spec = RunbookSpec(...)")
        missing = sorted(set(spec.credentials) - self._credentials)
        if spec.id in self.runbooks:
            other = type(self.runbooks[spec.id].runbook)
            raise RegistrationError(
                f"two runbooks are called {spec.id!r}: {other.__module__}.{other.__qualname__} and {kind.__module__}.{name}; rename one"
            )
        if missing:
            raise RegistrationError(
                f"runbook {spec.id!r} declares credentials that this host does not have: {', '.join(missing)}; "
                "store each with `remediation secrets set NAME`"
            )
        if spec.essential and spec.blast_radius is Radius.FLEET:
            raise RegistrationError(
                f"runbook {spec.id!r} is essential and reaches the whole fleet; a runbook can be one or the other"
            )
        for item in spec.handles:
            if not is_word(item.code):
                raise RegistrationError(
                    f"runbook {spec.id!r} handles the code {printable(item.code)!r}, which no degradation can have: a code must be "
                    f"{A_WORD}; name each exactly, globs are for subsystem and subject"
                )
        _refuse_wrong_steps(kind, spec)
        try:
            instance = kind()
        except Exception as error:
            raise RegistrationError(
                f"runbook {spec.id!r} can't be constructed: {type(error).__name__}: {reason_of(error)}"
            ) from error
        filled = plugged.filled(kind.options_type, options or {}, f'[runbooks."{spec.id}".options]')
        registered = Registered(instance, spec, filled, code_digest(kind), plugin or kind.__module__)
        self.runbooks[spec.id] = registered
        self.specs[spec.id] = spec
        for code in dict.fromkeys(item.code for item in spec.handles):
            rivals = self._by_code.setdefault(code, [])
            rivals.append(registered)
            rivals.sort(key=lambda item: ladder.rank(item.spec, self._order))
        return registered

    def match(
        self, event: DegradationEvent, provenance: Provenance, *, faulted: Callable[[str, BaseException], None]
    ) -> list[Registered]:
        """
        The runbooks that handle `event`, in the order of the ladder.

        A `matches` that raises disables its runbook for this process and is reported to `faulted`; the others are not affected.
        """
        rivals = self._by_code.get(event.code)
        if not rivals or not ladder.may_match(provenance) or event.subject == STORM_SUBJECT:
            return []
        result = []
        for item in rivals:
            if item.spec.id in self.disabled or not any(
                pattern.code == event.code and ladder.handles(pattern, event) for pattern in item.spec.handles
            ):
                continue
            try:
                matches = item.runbook.matches(event)
            except (Exception, SystemExit, asyncio.CancelledError) as error:
                self.disabled[item.spec.id] = f"matches raised {type(error).__name__}"
                faulted(item.spec.id, error)
                continue
            if matches:
                result.append(item)
        return result


def _refuse_wrong_steps(kind: type[Runbook[Any]], spec: RunbookSpec) -> None:
    for name in ("precondition", "action", "verify", "escalate"):
        if not _is_async(getattr(kind, name)):
            raise RegistrationError(
                f"runbook {spec.id!r}: {name} is not an async function, and the host could not end it at its deadline; "
                f"write `async def {name}`"
            )
    if _is_async(kind.matches):
        raise RegistrationError(
            f"runbook {spec.id!r}: matches is async, so its answer would always count as yes; write `def matches`"
        )


def _is_async(step: Any) -> bool:
    step = inspect.unwrap(step)
    return inspect.iscoroutinefunction(step) or inspect.iscoroutinefunction(getattr(step, "__call__", None))  # noqa: B004 - an object with an async __call__


def code_digest(kind: type) -> str:
    """
    SHA-256 of the code that a promotion is bound to: every ``.py`` file of the package that holds the class, or its module alone.

    Non-guarantee: code that it imports from elsewhere is not covered. A class without source is identified by its name only.
    """
    digest = hashlib.sha256(f"{kind.__module__}:{kind.__qualname__}\n".encode())
    module = sys.modules.get(kind.__module__)
    try:
        source = Path(inspect.getsourcefile(kind) or "")
        if not source.is_file():
            return digest.hexdigest()
        package = bool(getattr(module, "__package__", "")) or source.name == "__init__.py"
        files = sorted(source.parent.rglob("*.py")) if package else [source]
        for file in files:
            digest.update(f"{file.relative_to(source.parent)}\n".encode())
            digest.update(hashlib.sha256(file.read_bytes()).digest())
    except (OSError, TypeError):
        return digest.hexdigest()
    return digest.hexdigest()
