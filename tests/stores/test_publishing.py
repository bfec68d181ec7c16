"""A published log, as a stranger sees it: read over HTTP by a client that was written from the specification, with nothing of ours."""

import base64
import contextlib
import hashlib
import http.client
import http.server
import shutil
import sqlite3
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from tests.support.journals import said
from tests.support.written_journal import Ran, WrittenJournal, remediation

from remediation.errors import ConfigurationError, JournalDamaged, JournalRolledBack
from remediation.keys import SigningKey
from remediation.proof.checkpoint import Checkpoint
from remediation.proof.merkle import EMPTY_ROOT
from remediation.settings import Settings
from remediation.stores.publishing import Published, export_tiles


class Stranger:
    """A client of C2SP tlog-tiles, tlog-checkpoint and signed-note that knows an address and a vkey."""

    def __init__(self, port: int, vkey: str) -> None:
        self.port = port
        self.name, key_id, key = vkey.split("+", 2)
        raw = base64.b64decode(key)
        assert raw[0] == 1
        assert hashlib.sha256(self.name.encode() + b"\n" + raw).digest()[:4].hex() == key_id
        self.key_id, self.key = bytes.fromhex(key_id), Ed25519PublicKey.from_public_bytes(raw[1:])
        self.asked: list[str] = []

    def get(self, path: str) -> bytes:
        self.asked.append(path)
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        with contextlib.closing(connection):
            connection.request("GET", f"/{path}")
            answer = connection.getresponse()
            assert answer.status == 200, f"{path}: {answer.status}"
            return answer.read()

    def checkpoint(self) -> tuple[int, bytes]:
        text, _, below = self.get("checkpoint").decode().rpartition("\n\n")
        name, size, root = text.split("\n")
        mark, signer, signature = below.rstrip("\n").split(" ")
        assert (name, mark, signer) == (self.name, "\u2014", self.name)
        raw = base64.b64decode(signature)
        assert raw[:4] == self.key_id
        self.key.verify(raw[4:], text.encode() + b"\n")
        return int(size), base64.b64decode(root)

    @staticmethod
    def path(level: str, n: int, width: int) -> str:
        digits = f"{n:03}" if n < 1000 else f"{n:0{-(-len(str(n)) // 3) * 3}}"
        groups = [digits[at : at + 3] for at in range(0, len(digits), 3)]
        return (
            f"tile/{level}/"
            + "/".join([*(f"x{group}" for group in groups[:-1]), groups[-1]])
            + (f".p/{width}" if width < 256 else "")
        )

    def entries(self, size: int) -> list[bytes]:
        found = []
        for n in range(-(-size // 256)):
            data, width = b"", min(256, size - 256 * n)
            data = self.get(self.path("entries", n, width))
            for _ in range(width):
                length = int.from_bytes(data[:2], "big")
                found.append(data[2 : 2 + length])
                assert len(found[-1]) == length
                data = data[2 + length :]
            assert data == b""
        return found

    def tile(self, level: int, n: int, size: int) -> list[bytes]:
        width = min(256, (size >> 8 * level) - 256 * n)
        data = self.get(self.path(str(level), n, width))
        assert len(data) == 32 * width
        return [data[at : at + 32] for at in range(0, len(data), 32)]

    def verify(self) -> list[bytes]:
        """Everything that is published holds together; returns the entries."""
        size, root = self.checkpoint()
        leaves = self.entries(size)
        hashes = [hashlib.sha256(b"\0" + leaf).digest() for leaf in leaves]
        assert mth(hashes) == root
        level = 0
        while (count := size >> 8 * level) > 0:
            stored = [each for n in range(-(-count // 256)) for each in self.tile(level, n, size)]
            span = 256**level
            assert stored == [mth(hashes[at * span : (at + 1) * span]) for at in range(count)]
            level += 1
        return leaves


def mth(hashes: list[bytes]) -> bytes:
    """The Merkle tree hash of RFC 6962, section 2.1, over leaf hashes, by its definition."""
    if len(hashes) < 2:
        return hashes[0] if hashes else hashlib.sha256().digest()
    split = 1 << (len(hashes) - 1).bit_length() - 1
    return hashlib.sha256(b"\1" + mth(hashes[:split]) + mth(hashes[split:])).digest()


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@contextlib.contextmanager
def served(folder: Path, vkey: str) -> Iterator[Stranger]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield Stranger(server.server_address[1], vkey)
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def journal(tmp_path: Path) -> WrittenJournal:
    return WrittenJournal.make(tmp_path)


def leaves(journal: WrittenJournal) -> list[bytes]:
    with sqlite3.connect(journal.home.journal) as database:
        return [leaf for (leaf,) in database.execute("SELECT leaf FROM entry ORDER BY seq")]


def publish(journal: WrittenJournal, folder: Path) -> int:
    return published(journal, folder).entries


def published(journal: WrittenJournal, folder: Path) -> Published:
    return export_tiles(journal.home.journal, journal.home.head_note.read_text(), folder, keys=[journal.signer.key])


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_specifications_example_of_a_path_is_ours() -> None:
    assert Stranger.path("0", 1234067, 256) == "tile/0/x001/x234/067"
    assert Stranger.path("entries", 67, 3) == "tile/entries/067.p/3"
    assert Stranger.path("2", 1000, 256) == "tile/2/x001/000"


@pytest.mark.parametrize("size", [0, 1, 255, 256, 257, 700])
def test_a_stranger_verifies_all_of_it_over_http(journal: WrittenJournal, tmp_path: Path, size: int) -> None:
    if size:
        journal.write("host/atlas", [said(number) for number in range(size)])
    folder = tmp_path / "log"
    out = remediation("journal", "export", "--format", "tlog-tiles", "--out", str(folder), "--home", str(journal.home.root))
    assert out.status == 0, out.err
    with served(folder, str(journal.signer.key)) as stranger:
        assert stranger.verify() == leaves(journal)
        assert set(stranger.asked) == set(files(folder)), "nothing else is published"


def test_an_export_goes_on_where_the_last_one_ended(journal: WrittenJournal, tmp_path: Path) -> None:
    folder, size = tmp_path / "log", 0
    for number in (1, 200, 54, 1, 1, 255, 0, 300, 700):
        if number:
            journal.write("host/atlas", [said(each) for each in range(number)])
        before = {path: (folder / path).stat() for path in files(folder)} if folder.exists() else {}
        assert publish(journal, folder) == number
        size += number
        for path, stat in before.items():
            if path != "checkpoint":
                now = (folder / path).stat()
                assert (now.st_ino, now.st_mtime_ns) == (stat.st_ino, stat.st_mtime_ns), f"{path} was written again"
        with served(folder, str(journal.signer.key)) as stranger:
            assert len(stranger.verify()) == size
    assert not [path for path in files(folder) if "/." in path or path.startswith(".")]


def test_what_an_earlier_checkpoint_needs_is_still_there(journal: WrittenJournal, tmp_path: Path) -> None:
    folder = tmp_path / "log"
    journal.write("host/atlas", [said(number) for number in range(300)])
    publish(journal, folder)
    old = (folder / "checkpoint").read_bytes()
    journal.write("host/atlas", [said(number) for number in range(500)])
    publish(journal, folder)
    (folder / "checkpoint").write_bytes(old)
    with served(folder, str(journal.signer.key)) as stranger:
        assert len(stranger.verify()) == 300


def test_an_interrupted_export_is_made_good_by_the_next(journal: WrittenJournal, tmp_path: Path) -> None:
    journal.write("host/atlas", [said(number) for number in range(300)])
    folder = tmp_path / "log"
    (folder / "tile/0").mkdir(parents=True)
    (folder / "tile/0/000").write_bytes(b"half")
    (folder / ".checkpoint.4711").write_bytes(b"")
    publish(journal, folder)
    journal.write("host/atlas", [said(number) for number in range(300)])
    (folder / "tile/0/001").write_bytes(b"half")
    publish(journal, folder)
    with served(folder, str(journal.signer.key)) as stranger:
        assert stranger.verify() == leaves(journal)


def test_the_folder_of_another_log_or_of_something_else_is_refused(journal: WrittenJournal, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = WrittenJournal.make(tmp_path / "other")
    shutil.copytree(journal.home.root, tmp_path / "copy")
    with sqlite3.connect(other.home.journal) as database:
        note = journal.home.head_note.read_text().replace("0123456789abcdef", "fedcba9876543210")
        database.execute("UPDATE checkpoint SET note = ?", (note,))
    folder = tmp_path / "log"
    export_tiles(other.home.journal, note, folder, keys=())
    before = files(folder)
    with pytest.raises(ConfigurationError, match="publishes the log"):
        publish(journal, folder)
    assert files(folder) == before
    for name, content in (("index.html", "x"), ("checkpoint", "x")):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).write_text(content)
        with pytest.raises(ConfigurationError):
            publish(journal, tmp_path / name)
        ran = remediation(
            "journal", "export", "--format", "tlog-tiles", "--out", str(tmp_path / name), "--home", str(journal.home.root)
        )
        assert ran.status == 2


def test_another_history_of_the_log_is_not_mixed_into_what_is_published(journal: WrittenJournal, tmp_path: Path) -> None:
    shutil.copytree(journal.home.root, tmp_path / "twin")
    journal.write("host/atlas", [said(number) for number in range(300)])
    folder = tmp_path / "log"
    publish(journal, folder)
    before = files(folder)
    head = journal.home.head_note.read_text()
    # The same key continues a copy of the empty log in another way.
    for file in journal.home.root.glob("journal.sqlite3*"):
        file.unlink()
    shutil.copy(tmp_path / "twin" / "journal.sqlite3", journal.home.journal)
    with sqlite3.connect(journal.home.journal) as database:
        journal.home.head_note.write_text(database.execute("SELECT note FROM checkpoint").fetchone()[0])
    journal.home.head_note.with_name("head.note.acknowledged").unlink()
    with pytest.raises(JournalRolledBack):
        publish(journal, folder)
    journal.write("host/atlas", [said("other") for number in range(301)])
    with pytest.raises(JournalDamaged, match="another history"):
        publish(journal, folder)
    assert files(folder) == before
    assert head.encode() == before["checkpoint"]


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE entry SET leaf = CAST(replace(CAST(leaf AS TEXT), 'test', 'root') AS BLOB) WHERE seq = 650",
        "UPDATE tile SET data = zeroblob(8192) WHERE level = 0 AND n = 1",
        "UPDATE tile SET data = zeroblob(64) WHERE level = 1",
        "DELETE FROM tile WHERE level = 1",
        "DELETE FROM entry WHERE seq = 650",
        "DELETE FROM entry WHERE seq = 599",
    ],
)
def test_no_checkpoint_is_published_over_what_was_altered(sql: str, journal: WrittenJournal, tmp_path: Path) -> None:
    journal.write("host/atlas", [said(number) for number in range(600)])
    folder = tmp_path / "log"
    publish(journal, folder)
    before = (folder / "checkpoint").read_bytes()
    journal.write("host/atlas", [said(number) for number in range(100)])
    with sqlite3.connect(journal.home.journal) as database:
        assert database.execute(sql).rowcount > 0
    if "n = 1" in sql:
        # Tiles of this level are made from the entries.
        assert publish(journal, folder) == 100
        return
    with pytest.raises(JournalDamaged, match="journal verify"):
        publish(journal, folder)
    assert (folder / "checkpoint").read_bytes() == before


def rerun(journal: WrittenJournal, folder: Path) -> Ran:
    return remediation("journal", "export", "--format", "tlog-tiles", "--out", str(folder), "--home", str(journal.home.root))


def flipped(content: bytes) -> bytes:
    return content[:-9] + bytes([content[-9] ^ 1]) + content[-8:]


DAMAGE: dict[str, Callable[[Path], object]] = {
    "flipped": lambda path: path.write_bytes(flipped(path.read_bytes())),
    "its first byte flipped": lambda path: path.write_bytes(bytes([path.read_bytes()[0] ^ 1]) + path.read_bytes()[1:]),
    "truncated": lambda path: path.write_bytes(path.read_bytes()[:-40]),
    "emptied": lambda path: path.write_bytes(b""),
    "lengthened": lambda path: path.write_bytes(path.read_bytes() + b"more"),
    "removed": Path.unlink,
}
FILES = [
    "tile/0/000",
    "tile/0/001",
    "tile/0/002.p/88",
    "tile/1/000.p/2",
    "tile/entries/000",
    "tile/entries/002.p/88",
    "checkpoint",
]


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("more", [0, 300])
def test_whatever_of_a_published_log_was_damaged_is_mended_and_named(
    damage: str, more: int, journal: WrittenJournal, tmp_path: Path
) -> None:
    journal.write("host/atlas", [said(number) for number in range(600)])
    folder = tmp_path / "log"
    publish(journal, folder)
    whole = files(folder)
    if more:
        journal.write("host/atlas", [said(number) for number in range(more)])
    for name in FILES:
        if more:
            shutil.rmtree(folder)
            for path, content in whole.items():
                (folder / path).parent.mkdir(parents=True, exist_ok=True)
                (folder / path).write_bytes(content)
        DAMAGE[damage](folder / name)
        done = published(journal, folder)
        assert (done.mended, done.mendings) == ((name,), 1), name
        assert done.entries == (600 + more if name == "checkpoint" else more)
        assert {path: content for path, content in files(folder).items() if path != "checkpoint"}.items() >= {
            (path, content) for path, content in whole.items() if path != "checkpoint"
        }, name
        assert published(journal, folder) == Published(0, (), 0)
        if not more:
            assert files(folder) == whole
    with served(folder, str(journal.signer.key)) as stranger:
        assert stranger.verify() == leaves(journal)


def test_the_command_says_which_files_it_mended(journal: WrittenJournal, tmp_path: Path) -> None:
    journal.write("host/atlas", [said(number) for number in range(30 * 256)])
    folder = tmp_path / "log"
    assert "mended" not in rerun(journal, folder).err
    whole = files(folder)
    DAMAGE["flipped"](folder / "tile/0/003")
    DAMAGE["removed"](folder / "tile/entries/007")
    ran = rerun(journal, folder)
    assert ran.status == 0
    assert ran.err.startswith("0 new entries of ")
    assert "2 files there were damaged or missing, and are mended: tile/0/003, tile/entries/007" in ran.err.replace(
        "tile/entries/007, tile/0/003", "tile/0/003, tile/entries/007"
    )
    assert files(folder) == whole
    shutil.rmtree(folder / "tile")
    assert "and 41 more" in rerun(journal, folder).err
    assert files(folder) == whole


def test_partial_tiles_of_earlier_checkpoints_are_mended_too(journal: WrittenJournal, tmp_path: Path) -> None:
    folder = tmp_path / "log"
    for number in (100, 50, 300):
        journal.write("host/atlas", [said(each) for each in range(number)])
        publish(journal, folder)
    whole = files(folder)
    for name in ("tile/0/000.p/100", "tile/entries/000.p/150"):
        DAMAGE["flipped"](folder / name)
        assert published(journal, folder).mended == (name,)
    assert files(folder) == whole


def test_nothing_is_written_over_a_log_that_the_journal_is_behind(journal: WrittenJournal, tmp_path: Path) -> None:
    journal.write("host/atlas", [said(number) for number in range(10)])
    kept = {path: path.read_bytes() for path in (journal.home.journal, journal.home.head_note)}
    journal.write("host/atlas", [said(number) for number in range(10)])
    folder = tmp_path / "log"
    publish(journal, folder)
    for path, content in kept.items():
        path.write_bytes(content)
    journal.home.head_note.with_name("head.note.acknowledged").unlink()
    DAMAGE["flipped"](folder / "tile/0/000.p/20")
    before = files(folder)
    ran = rerun(journal, folder)
    assert ran.status == 4, ran.err
    assert "20 entries" in ran.err
    assert files(folder) == before


@pytest.mark.parametrize("checkpoint", ["whole", "flipped", "removed"])
@pytest.mark.parametrize("number", [5, 256, 700])
@pytest.mark.parametrize("of", ["another log", "another history"])
def test_nothing_is_written_over_the_files_of_others(
    of: str, number: int, checkpoint: str, journal: WrittenJournal, tmp_path: Path
) -> None:
    if of == "another history":
        shutil.copytree(journal.home.root, tmp_path / "other" / "home")
        shutil.copytree(journal.home.keys, tmp_path / "other" / "keys")
        root = tmp_path / "other" / "home"
        (root / "remediation.toml").write_text(f'[host]\nid = "atlas"\n[keys]\ndir = "{tmp_path / "other" / "keys"}"\n')
        other = WrittenJournal(Settings.load(root / "remediation.toml", home=root).home, journal.signer)
    else:
        (tmp_path / "other").mkdir()
        other = WrittenJournal.make(tmp_path / "other")
        with sqlite3.connect(other.home.journal) as database:
            note = Checkpoint("atlas/remediation/fedcba9876543210", 0, EMPTY_ROOT)
            signer = SigningKey.load(other.home.signing_key).signer(note.origin)
            database.execute("UPDATE checkpoint SET note = ?", (note.sign([signer]),))
            other.home.head_note.write_text(note.sign([signer]))
            other.home.verifier_keys.write_text(f"{signer.key}\n")
            other = WrittenJournal(other.home, signer)
    other.write("host/atlas", [said(each) for each in range(number)])
    journal.write("host/atlas", [said(each + 1) for each in range(800)])
    folder = tmp_path / "log"
    publish(other, folder)
    if checkpoint != "whole":
        DAMAGE[checkpoint](folder / "checkpoint")
    before = files(folder)
    ran = rerun(journal, folder)
    assert ran.status == (2 if of == "another log" and checkpoint != "removed" else 3), ran.err
    assert "history" in ran.err or "publishes the log" in ran.err
    assert files(folder) == before


def test_the_journals_damage_is_not_published_over_what_is_whole(journal: WrittenJournal, tmp_path: Path) -> None:
    journal.write("host/atlas", [said(number) for number in range(600)])
    folder = tmp_path / "log"
    publish(journal, folder)
    before = files(folder)
    with sqlite3.connect(journal.home.journal) as database:
        sql = "UPDATE entry SET leaf = CAST(replace(CAST(leaf AS TEXT), 'test', 'root') AS BLOB) WHERE seq = 20"
        assert database.execute(sql).rowcount == 1
    ran = rerun(journal, folder)
    assert ran.status == 3, ran.err
    assert "journal verify" in ran.err
    assert files(folder) == before
