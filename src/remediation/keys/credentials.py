"""What a host's runbooks may be given: secrets from code and from the vault, under one roof that never shows a value."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Never

from remediation.errors import ConfigurationError, CredentialRefused
from remediation.keys.vault import RemediationKeyVault


class Credentials(Mapping[str, str]):
    """
    Values by name. Those of the vault are as they are now: read anew when its file changed.

    Args:
        given: From the embedding program.
        vault: The host's.

    Raises:
        ConfigurationError: a name is in both; nobody could tell which value is meant.

    """

    def __init__(self, given: Mapping[str, str] | None = None, vault: RemediationKeyVault | None = None) -> None:
        self._given = dict(given or {})
        self._vault = vault
        self._learn: Callable[[Iterable[str]], object] | None = None
        self._told: frozenset[str] = frozenset()
        if vault is not None and (both := sorted(self._given.keys() & set(vault.names()))):
            raise ConfigurationError(
                f"the credentials {', '.join(both)} are in the vault, and the program passes them too: "
                "take them out of RemediatorBootstrap(secrets=…), or `remediation secrets rm` them"
            )

    def __getitem__(self, name: str) -> str:
        if name in self._given:
            return self._given[name]
        if self._vault is not None:
            missing = False
            value = ""
            try:
                value = self._vault.get(name)
            except CredentialRefused:
                missing = True
            if not missing:
                self._tell()
                return value
        raise KeyError(name)

    def __contains__(self, name: object) -> bool:
        return name in self._given or (self._vault is not None and name in self._vault.names())

    def __iter__(self) -> Iterator[str]:
        yield from self._given
        if self._vault is not None:
            yield from (name for name in self._vault.names() if name not in self._given)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def to_mask(self) -> tuple[str, ...]:
        """The values of at least six characters; see `RemediationKeyVault.values`."""
        given = [value for value in self._given.values() if len(value) >= 6]
        return tuple(dict.fromkeys([*given, *(self._vault.values() if self._vault is not None else ())]))

    def tell(self, learn: Callable[[Iterable[str]], object]) -> None:
        """Have `learn` told what is to be masked: now, and before a value that the vault got meanwhile is handed out."""
        self._learn = learn
        self._tell()

    def _tell(self) -> None:
        known = frozenset(self.to_mask())
        if self._learn is not None and (new := known - self._told):
            self._learn(new)
            self._told = known

    def __repr__(self) -> str:
        return "Credentials(<not shown>)"

    def __reduce_ex__(self, protocol: object) -> Never:
        raise TypeError("credentials are not copied or pickled: secrets stay in one place")
