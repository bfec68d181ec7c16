"""The home: the folder in which a host keeps its journal, its inbox and what belongs to them. Only the standard library is used."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path

from remediation.errors import ConfigurationError
from remediation.model.text import printable

DEFAULT_HOME = ".remediation"
HOME_VARIABLE = "REMEDIATION_HOME"
CONFIG_NAME = "remediation.toml"
PASSPHRASE_SOURCE = r"^(env:[A-Za-z_][A-Za-z0-9_]*|fd:(0|[3-9]|[1-9][0-9]{1,3})|credential:[A-Za-z0-9_.-]{1,255})$"  # noqa: S105 - where one comes from, not one
"""How a source of a passphrase is written."""
PASSPHRASE_SOURCES = ("env:REMEDIATION_KEY_PASSPHRASE", "credential:remediation-key-passphrase")
"""Where the passphrase of the signing key is looked for, if the settings don't say."""
_PRIVATE = 0o700
_OWN = {CONFIG_NAME, ".gitignore", "blobs", "hosts", "locks", "scratch", "sentinels"}
"""What may lie in a folder that is no home yet: a making that was interrupted leaves these. The inbox comes last."""


@dataclass(frozen=True, slots=True)
class Home:
    """
    The paths of a home. Making one touches nothing.

    Args:
        root: The folder; absolute.
        keys_folder: Where the signing key and ``head.note`` lie, outside the home; known once the settings are (`Settings.home`).
        key_provider: What keeps the private keys, as ``[keys] provider`` has it.
        passphrase_sources: Where their passphrase comes from, as ``[keys] passphrase`` has it.
        host_id: The host's id.

    """

    root: Path
    keys_folder: Path | None = None
    key_provider: str = "file"
    passphrase_sources: tuple[str, ...] = PASSPHRASE_SOURCES
    host_id: str = ""

    @classmethod
    def locate(cls, option: str | os.PathLike[str] | None = None) -> Home:
        """The home named by `option` (``--home``), else by ``REMEDIATION_HOME``, else ``.remediation`` in the working directory."""
        named = os.fspath(option) if option else os.environ.get(HOME_VARIABLE) or DEFAULT_HOME
        return cls(absolute(named, Path.cwd()))

    @property
    def config(self) -> Path:
        """The settings file of this home: ``remediation.toml`` in it."""
        return self.root / CONFIG_NAME

    @property
    def journal(self) -> Path:
        """The journal's database."""
        return self.root / "journal.sqlite3"

    @property
    def journal_lock(self) -> Path:
        """The kernel lock under which one writer at a time appends."""
        return self.root / "journal.lock"

    @property
    def snapshot(self) -> Path:
        """The folded state as the host kept it last: a cache."""
        return self.root / "snapshot.bin"

    @property
    def inbox(self) -> Path:
        """Where other processes leave reports and requests for the host."""
        return self.root / "inbox"

    @property
    def blobs(self) -> Path:
        """Before-images and other content, by digest."""
        return self.root / "blobs"

    @property
    def locks(self) -> Path:
        """Kernel locks of host instances and attempts."""
        return self.root / "locks"

    @property
    def hosts(self) -> Path:
        """One file for each host that is ready: who it is, and its newest beat."""
        return self.root / "hosts"

    @property
    def scratch(self) -> Path:
        """Private folders of attempts under way."""
        return self.root / "scratch"

    @property
    def sentinels(self) -> Path:
        """State folders of sentinels; caches only."""
        return self.root / "sentinels"

    @property
    def keys(self) -> Path:
        """
        The folder of the signing key and of ``head.note``.

        Raises:
            ConfigurationError: this value was made without the settings, which name the folder.

        """
        if self.keys_folder is None:
            raise ConfigurationError(
                f"the keys of {self.root} are named by its settings: take the home from Settings.of(home).home"
            )
        return self.keys_folder

    @property
    def head_note(self) -> Path:
        """The newest signed tree head that has left the process."""
        return self.keys / "head.note"

    @property
    def signing_key(self) -> Path:
        """The key that signs checkpoints."""
        return self.keys / "signing.key"

    @property
    def verifier_keys(self) -> Path:
        """The public half: the vkeys of all keys that the log had, one a line, the first one first."""
        return self.keys / "signing.vkey"

    @property
    def keys_owner(self) -> Path:
        """The path of the home to which the keys' folder belongs: found by the host's id, it could be another's."""
        return self.keys / "home"

    @property
    def anchors(self) -> Path:
        """What the anchors were given, and which of them fail, by the host's own word: a cache."""
        return self.root / "anchors.json"

    @property
    def told(self) -> Path:
        """How far in the log people were told of what happened."""
        return self.root / "told.json"

    @property
    def made(self) -> bool:
        """Whether the folder is a home (has an inbox), though perhaps one without a journal yet."""
        return self.inbox.is_dir()

    def make(self) -> None:
        """
        Make the folders, readable by their owner only, and a ``.gitignore`` of ``*``; what is there stays as it is.

        Raises:
            ConfigurationError: the folder holds other things than a home does, or can't be made.

        """
        try:
            self._refuse_foreign()
            for folder in (self.root, self.blobs, self.hosts, self.locks, self.scratch, self.sentinels, self.inbox):
                _make_private(folder)
            if self.keys_folder is not None:
                _make_private(self.keys_folder)
            ignore = self.root / ".gitignore"
            if not ignore.exists():
                ignore.write_text("*\n", encoding="ascii")
        except OSError as error:
            where = printable(str(error.filename or self.root))
            raise ConfigurationError(f"the home {self.root} can't be made: {where}: {error.strerror or error}") from error

    def require(self) -> None:
        """
        Make sure that this is a home.

        Raises:
            ConfigurationError: it is not (the message says how to make one), or this user may not look into it.

        """
        try:
            made = self.made
        except OSError as error:
            raise ConfigurationError(
                f"the home {self.root} can't be read: {error.strerror}; run this as its owner, or name yours with --home"
            ) from error
        if not made:
            raise ConfigurationError(
                f"there is no home at {self.root}: make one with `remediation --home {self.root} init`, "
                f"or name yours with --home or {HOME_VARIABLE}"
            )

    def _refuse_foreign(self) -> None:
        if self.made or not self.root.exists():
            return
        if not self.root.is_dir():
            raise ConfigurationError(f"{self.root} is a file; a home is a folder: name another one")
        foreign = sorted({entry.name for entry in self.root.iterdir()} - _OWN)
        if foreign and not self.made:  # another process may be making it
            raise ConfigurationError(
                f"{self.root} is not empty and no home (it holds {printable(foreign[0])!r}); "
                f"a home wants a folder of its own, such as {self.root / DEFAULT_HOME}"
            )
        # An empty folder that somebody made for us has the mode of their umask.
        self.root.chmod(_PRIVATE)


def absolute(path: str | os.PathLike[str], base: Path) -> Path:
    """`path` as an absolute path: ``~`` is the user's home directory, what is relative is so to `base`; links stay as they are."""
    return Path(os.path.abspath(base / os.path.expanduser(path)))


def default_keys(host_id: str) -> Path:
    """
    ``$XDG_STATE_HOME/remediation/<host id>``, by default under ``~/.local/state`` (XDG Base Directory Specification 0.8).

    Raises:
        ConfigurationError: there is neither the variable nor a home directory.

    """
    state = os.environ.get("XDG_STATE_HOME", "")
    # The specification has relative values ignored.
    if not os.path.isabs(state):
        user = os.path.expanduser("~")
        if not os.path.isabs(user):
            raise ConfigurationError(
                "no place for the keys: this user has no home directory; set XDG_STATE_HOME, or [keys] dir in remediation.toml"
            )
        state = os.path.join(user, ".local", "state")
    return Path(os.path.normpath(state)) / "remediation" / host_id


def _make_private(folder: Path) -> None:
    missing = []
    while not folder.exists():
        missing.append(folder)
        folder = folder.parent
    for path in reversed(missing):
        path.mkdir(mode=_PRIVATE, exist_ok=True)
    if not stat.S_ISDIR(folder.stat().st_mode):
        raise NotADirectoryError(20, "is not a folder", str(folder))
