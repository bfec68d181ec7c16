"""Places for keys: files, the system's keyring, a plugin's. Each keeps the same promises."""

import dataclasses
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import keyring
import keyring.backends.fail
import keyring.backends.null
import pytest
from keyring.backend import KeyringBackend
from keyring.errors import PasswordDeleteError

from remediation.bootstrap import initialise, open_journal
from remediation.bootstrap.keys import open_keys, rotate
from remediation.discovery import discover
from remediation.errors import ConfigurationError, RegistrationError
from remediation.hooks import hookimpl
from remediation.keys import KeyFileRefused, SigningKey
from remediation.keys.file_store import FileKeys
from remediation.keys.os_keyring import KeyringKeys, KeyringRefused, fit
from remediation.ports.clock import SystemClock
from remediation.ports.keys import KeyPlace, KeyState, KeyStore
from remediation.settings import Settings


class MemoryKeyring(KeyringBackend):
    """A backend that keeps secrets, as a session's keyring does."""

    priority = 5

    def __init__(self) -> None:
        super().__init__()
        self.kept: dict[tuple[str, str], str] = {}

    def get_password(self, service: str, username: str) -> str | None:
        return self.kept.get((service, username))

    def set_password(self, service: str, username: str, password: str) -> None:
        self.kept[service, username] = password

    def delete_password(self, service: str, username: str) -> None:
        if self.kept.pop((service, username), None) is None:
            raise PasswordDeleteError(username)


class PlaintextKeyring(MemoryKeyring):
    pass


class ForgetfulKeyring(MemoryKeyring):
    def set_password(self, service: str, username: str, password: str) -> None:
        pass


class UnwantedKeyring(MemoryKeyring):
    priority = 0.5


@pytest.fixture
def session() -> Iterator[Callable[[KeyringBackend], None]]:
    """Registers a backend with the real library, for one test."""
    before = keyring.get_keyring()
    yield keyring.set_keyring
    keyring.set_keyring(before)


@pytest.fixture(params=["file", "encrypted file", "keyring"])
def store(request: pytest.FixtureRequest, tmp_path: Path, session: Callable[[KeyringBackend], None]) -> KeyStore:
    place = KeyPlace(tmp_path, "atlas", lambda what: b"passphrase")
    if request.param == "keyring":
        session(MemoryKeyring())
        made: KeyStore = KeyringKeys().open(place)
        made.create()
        return made
    made = FileKeys().open(place)
    made.create(encrypt=request.param != "file")
    return made


def test_what_was_made_is_what_is_loaded_and_nothing_replaces_it(store: KeyStore) -> None:
    key = store.load()
    assert store.exists()
    assert store.load(key.public).public == key.public == store.state().held[0]
    with pytest.raises(ConfigurationError, match="is not replaced"):
        store.create()
    with pytest.raises(ConfigurationError, match="is not in"):
        store.load(bytes(32))


def test_a_staged_key_is_found_and_takes_the_place_of_the_old_one_which_is_gone(store: KeyStore) -> None:
    old = store.load()
    encrypted = store.state().encrypted
    new = store.stage()
    assert (store.load().public, store.load(new.public).public) == (old.public, new.public)
    assert set(store.state().held) == {old.public, new.public}
    store.settle(old.public)
    assert store.load(new.public).public == new.public, "a staged key that is not asked for stays"
    for _ in range(2):
        store.settle(new.public)
    assert store.load().public == new.public
    assert store.state() == dataclasses.replace(store.state(), held=(new.public,), encrypted=encrypted, unsettled=False)
    with pytest.raises(ConfigurationError):
        store.load(old.public)


def test_staging_again_destroys_what_was_staged_and_never_used(store: KeyStore) -> None:
    first, second = store.stage(), store.stage()
    assert store.load(second.public).public == second.public
    with pytest.raises(ConfigurationError):
        store.load(first.public)
    with pytest.raises(ConfigurationError):
        store.settle(first.public)
    assert store.load().public not in (first.public, second.public)


def test_a_change_of_the_passphrase_leaves_one_file_and_the_same_key(tmp_path: Path) -> None:
    known = [b"one"]
    store = FileKeys().open(KeyPlace(tmp_path, "atlas", lambda what: known[0]))
    public = store.create(encrypt=True).public
    for new in (b"two", None, b"three"):
        store.protect(new)
        known[0] = new or b"unused"
        assert store.load().public == public
        assert os.listdir(tmp_path) == ["signing.key"]


def test_a_change_of_the_passphrase_that_was_cut_off_destroys_no_key(tmp_path: Path) -> None:
    """A kill after the second name was made: destroying must not overwrite the only copy through it."""
    store = FileKeys().open(KeyPlace(tmp_path, "atlas", lambda what: b"one"))
    public = store.create(encrypt=True).public
    os.link(store.current, store.old)
    store.protect(b"one")
    assert store.load().public == public
    os.link(store.current, store.old)
    store.settle(public)
    assert store.load().public == public
    assert not store.old.exists()


def test_a_file_that_others_can_read_is_told_and_not_taken_for_a_missing_key(tmp_path: Path) -> None:
    store = FileKeys().open(KeyPlace(tmp_path, "atlas", lambda what: b""))
    public = store.create().public
    store.current.chmod(0o644)
    with pytest.raises(KeyFileRefused, match="chmod 600"):
        store.load(public)


@pytest.mark.parametrize(
    "backend", [keyring.backends.null.Keyring, keyring.backends.fail.Keyring, PlaintextKeyring, UnwantedKeyring]
)
def test_a_backend_that_keeps_nothing_fails_or_stores_plain_text_is_refused(
    backend: Callable[[], KeyringBackend], tmp_path: Path, session: Callable[[KeyringBackend], None]
) -> None:
    session(backend())
    with pytest.raises(KeyringRefused, match="is refused"):
        KeyringKeys().open(KeyPlace(tmp_path, "atlas", lambda what: b""))


def test_a_subclass_does_not_hide_what_a_backend_is() -> None:
    class Hidden(keyring.backends.null.Keyring):
        priority = 9

    with pytest.raises(KeyringRefused, match="keeps nothing"):
        fit(Hidden())


def test_a_backend_that_forgets_is_noticed_at_once(tmp_path: Path, session: Callable[[KeyringBackend], None]) -> None:
    session(ForgetfulKeyring())
    with pytest.raises(KeyringRefused, match="does not read back"):
        KeyringKeys().open(KeyPlace(tmp_path, "atlas", lambda what: b"")).create()


def settings_with(tmp_path: Path, provider: str) -> Settings:
    return Settings(
        base=tmp_path, host={"id": "atlas", "home": tmp_path / "home"}, keys={"dir": tmp_path / "keys", "provider": provider}
    )


async def test_a_home_is_made_opened_and_rotated_with_its_key_in_the_keyring(
    tmp_path: Path, session: Callable[[KeyringBackend], None]
) -> None:
    backend = MemoryKeyring()
    session(backend)
    home = settings_with(tmp_path, "keyring").home
    initialise(settings_with(tmp_path, "keyring"))
    first = dict(backend.kept)
    for _ in range(2):
        journal = await open_journal(home, SystemClock())
        try:
            await rotate(home, open_keys(home), journal)
        finally:
            await journal.close()
    assert len(backend.kept) == 1
    assert backend.kept != first
    assert not home.signing_key.exists()
    assert len(home.verifier_keys.read_text().split()) == 3


class OneKey:
    """A plugin's place for keys, as small as can be."""

    def __init__(self) -> None:
        self.kept: list[SigningKey] = []

    def exists(self) -> bool:
        return bool(self.kept)

    def create(self, *, encrypt: bool = False) -> SigningKey:
        self.kept.append(SigningKey.generate())
        return self.kept[0]

    def load(self, public: bytes | None = None) -> SigningKey:
        return next(key for key in self.kept if public in (None, key.public))

    def stage(self) -> SigningKey:
        del self.kept[1:]
        self.kept.append(SigningKey.generate())
        return self.kept[1]

    def settle(self, public: bytes) -> None:
        self.kept[:] = [key for key in self.kept if key.public == public]

    def state(self) -> KeyState:
        return KeyState(tuple(key.public for key in self.kept), True, "in this test")


class Provider:
    name = "one-key"

    def __init__(self) -> None:
        self.store = OneKey()

    def open(self, place: KeyPlace) -> OneKey:
        return self.store


class Plugin:
    def __init__(self, *providers: object) -> None:
        self.providers = providers

    @hookimpl
    def remediation_key_providers(self) -> tuple[object, ...]:
        return self.providers


async def test_a_plugin_brings_a_place_for_keys(tmp_path: Path) -> None:
    settings = settings_with(tmp_path, "one-key")
    keys = open_keys(settings.home, discover(settings, [Plugin(Provider())]).key_providers())
    settings.home.make()
    initialise(settings, keys=keys)
    journal = await open_journal(settings.home, SystemClock(), keys=keys)
    try:
        await rotate(settings.home, keys, journal)
        assert len(journal.keys) == 2
    finally:
        await journal.close()
    with pytest.raises(ConfigurationError, match="there are file, keyring"):
        open_keys(settings.home, {})


@pytest.mark.parametrize("name", ["file", "keyring", ""])
def test_a_plugin_can_not_take_the_name_of_another_place(tmp_path: Path, name: str) -> None:
    provider = Provider()
    provider.name = name
    with pytest.raises(RegistrationError, match="a name of its own"):
        discover(settings_with(tmp_path, "file"), [Plugin(provider)]).key_providers()
