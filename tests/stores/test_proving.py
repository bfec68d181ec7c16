"""Proofs from a stored journal: right, small, and never handed out when storage is not what was signed."""

import sqlite3
from pathlib import Path

import pytest
from tests.support import stories
from tests.support.journals import said
from tests.support.written_journal import WrittenJournal

from remediation.errors import JournalDamaged
from remediation.proof import Checkpoint, Note, TileWriter, leaf_hash, root_of, verify_consistency, verify_entry_proof
from remediation.stores.parts import Parts
from remediation.stores.proving import prove_consistency, prove_entry


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> WrittenJournal:
    """A journal of 1,030 entries: four full tiles, and six leaves that stand in none."""
    journal = WrittenJournal.make(tmp_path_factory.mktemp("written"))
    journal.write("host/atlas", [said(number) for number in range(700)])
    journal.write(stories.stream(), stories.healed())
    journal.write("host/atlas", [said(number) for number in range(700, 1025)])
    return journal


def leaves(journal: WrittenJournal) -> list[bytes]:
    with sqlite3.connect(journal.home.journal) as database:
        return [leaf for (leaf,) in database.execute("SELECT leaf FROM entry ORDER BY seq")]


def test_each_entry_has_its_proof(written: WrittenJournal) -> None:
    note = written.home.head_note.read_text()
    stored = leaves(written)
    assert len(stored) == 1030
    for seq in (0, 1, 255, 256, 511, 700, 702, 1023, 1024, 1029):
        proven = prove_entry(written.home.journal, seq, note)
        found = verify_entry_proof(str(proven.proof), vkeys=[str(written.signer.key)])
        assert found.ok, found.problems
        assert found.leaf is not None
        assert found.leaf.encode() == stored[seq]


def test_a_proof_reads_few_rows(written: WrittenJournal) -> None:
    note = written.home.head_note.read_text()
    # The entry, the leaves that no tile holds yet, at most two tiles of level 0 and one of level 1.
    assert all(prove_entry(written.home.journal, seq, note).rows <= 1 + 6 + 3 for seq in (0, 300, 1000, 1025))


@pytest.mark.parametrize("size", [1, 2, 200, 256, 257, 512, 1000, 1024, 1030])
def test_an_earlier_head_will_do_for_what_it_is_over(written: WrittenJournal, size: int) -> None:
    root = root_of([leaf_hash(leaf) for leaf in leaves(written)[:size]])
    note = Checkpoint(written.signer.key.name, size, root).sign([written.signer])
    for seq in {0, size // 2, size - 1}:
        found = verify_entry_proof(str(prove_entry(written.home.journal, seq, note).proof), vkeys=[str(written.signer.key)])
        assert (found.ok, found.size) == (True, size)
    with pytest.raises(ValueError, match="none is entry"):
        prove_entry(written.home.journal, size, note)


@pytest.mark.parametrize("old", [0, 1, 2, 255, 256, 257, 700, 1024, 1029, 1030])
def test_the_log_continues_each_of_its_earlier_states(written: WrittenJournal, old: int) -> None:
    note = written.home.head_note.read_text()
    hashes = prove_consistency(written.home.journal, old, note)
    before = root_of([leaf_hash(leaf) for leaf in leaves(written)[:old]])
    assert verify_consistency(old, 1030, before, Checkpoint.parse(Note.parse(note).text).root, hashes)


def test_no_later_state_is_an_earlier_one(written: WrittenJournal) -> None:
    with pytest.raises(ValueError, match="no earlier state"):
        prove_consistency(written.home.journal, 1031, written.home.head_note.read_text())


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE entry SET leaf = CAST(replace(CAST(leaf AS TEXT), 'pause.ended', 'pause.endex') AS BLOB) WHERE seq = 3",
        "UPDATE tile SET data = zeroblob(8192) WHERE level = 0 AND n = 0",
        "UPDATE tile SET data = zeroblob(8192) WHERE level = 0 AND n = 2",
        "UPDATE tile SET data = zeroblob(128) WHERE level = 1 AND n = 0",
        "DELETE FROM tile WHERE level = 0 AND n = 0",
        "DELETE FROM tile",
        "DELETE FROM entry WHERE seq = 3",
        "DELETE FROM entry WHERE seq = 1027",
        "DELETE FROM entry WHERE seq = 1029",
    ],
)
def test_nothing_is_proven_from_what_was_altered(sql: str, tmp_path: Path) -> None:
    journal = WrittenJournal.make(tmp_path)
    journal.write("host/atlas", [said(number) for number in range(1030)])
    with sqlite3.connect(journal.home.journal) as database:
        assert database.execute(sql).rowcount > 0
    note = journal.home.head_note.read_text()
    with pytest.raises(JournalDamaged) as caught:
        # A proof need not touch what was altered; the root that is signed must come out of what it touches.
        for seq in (3, 300, 700):
            prove_entry(journal.home.journal, seq, note)
    assert "journal verify" in str(caught.value)


def test_a_tree_is_restored_from_storage_at_any_size(written: WrittenJournal) -> None:
    stored = leaves(written)
    with Parts(written.home.journal) as parts:
        for size in (0, 1, 255, 256, 300, 1024, 1030):
            tree = TileWriter.restore(size, parts.cached_tile, parts.last_hashes(size))
            assert tree.root() == root_of([leaf_hash(leaf) for leaf in stored[:size]])
