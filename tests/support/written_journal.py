"""A real home with a real, signed journal that holds exactly the entries a test wants."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from remediation.journal import IntentJournal
from remediation.journal.head import HeadNote
from remediation.journal.lock import WriterLock
from remediation.journal.tree import SignedTree, holding
from remediation.keys import SigningKey
from remediation.model.entries import Entry
from remediation.ports.clock import SystemClock
from remediation.proof.checkpoint import Checkpoint
from remediation.proof.merkle import EMPTY_ROOT
from remediation.proof.note import NoteSigner
from remediation.settings import Home, Settings
from remediation.stores.sqlite import SqliteJournalStore, create


@dataclass
class WrittenJournal:
    """A home whose journal is written by the test itself."""

    home: Home
    signer: NoteSigner

    @classmethod
    def make(cls, folder: Path, *, settings: str = "") -> "WrittenJournal":
        root = folder / "home"
        Home(root).make()
        (root / "remediation.toml").write_text(settings or f'[host]\nid = "atlas"\n[keys]\ndir = "{folder / "keys"}"\n')
        home = Settings.load(root / "remediation.toml", home=root).home
        home.make()
        key = SigningKey.create(home.signing_key)
        signer = key.signer("atlas/remediation/0123456789abcdef")
        note = Checkpoint(signer.key.name, 0, EMPTY_ROOT).sign([signer])
        create(home.journal, note)
        home.head_note.write_text(note)
        home.verifier_keys.write_text(f"{signer.key}\n")
        return cls(home, signer)

    def write(self, stream: str, entries: Sequence[Entry], *, actor: str = "test") -> None:
        """Append `entries` to `stream`, durably."""

        async def work() -> None:
            journal = await IntentJournal.open(
                SqliteJournalStore(self.home.journal),
                SignedTree(self.signer.key.name, holding(SigningKey.load(self.home.signing_key))),
                WriterLock(self.home.journal_lock),
                HeadNote(self.home.head_note),
                SystemClock(),
                actor=actor,
            )
            try:
                await journal.append(stream, entries)
            finally:
                await journal.close()

        asyncio.run(work())


@dataclass(frozen=True)
class Ran:
    """What a command did."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> object:
        return json.loads(self.out)


def remediation(*arguments: str, env: Iterable[tuple[str, str]] = (), cwd: Path | None = None, stdin: str | None = None) -> Ran:
    """Run the real command line as a process of its own, and wait for its end."""
    environment = {name: value for name, value in os.environ.items() if name != "REMEDIATION_HOME"} | {"NO_COLOR": "1", **dict(env)}
    ended = subprocess.run(
        [sys.executable, "-m", "remediation", *arguments],
        env=environment,
        cwd=cwd,
        input=stdin,
        stdin=subprocess.DEVNULL if stdin is None else None,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return Ran(ended.returncode, ended.stdout, ended.stderr)
