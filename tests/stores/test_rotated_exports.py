"""A log whose key was rotated: its exports and proofs name the keys that its own entries tell of."""

import json
import sqlite3
from pathlib import Path

import pytest
from tests.support.sample_log import SampleLog

from remediation.proof import Leaf, TileWriter, VerifierKey, leaf_hash, verify_entry_proof, verify_export
from remediation.stores.exporting import Selection, export_journal
from remediation.stores.proving import prove_entry
from remediation.stores.publishing import Published, export_tiles
from remediation.stores.sqlite import create


@pytest.fixture
def log() -> SampleLog:
    """Two rotations, with entries before, between and after."""
    sample = SampleLog.of(5)
    sample.rotate()
    sample.add(note="by the second key")
    sample.rotate()
    sample.add(note="by the third key")
    return sample


@pytest.fixture
def journal(log: SampleLog, tmp_path: Path) -> Path:
    """`log`, stored."""
    path = tmp_path / "journal.sqlite3"
    create(path, log.checkpoint(0, signers=log.signers[:1]))
    with sqlite3.connect(path) as database:
        for leaf, payload in zip(log.leaves, log.payloads, strict=True):
            frame = Leaf.parse(leaf)
            database.execute(
                "INSERT INTO entry VALUES (?, ?, ?, ?, ?, ?, ?)",
                (frame.seq, frame.id, frame.stream, frame.stream_seq, frame.type, frame.time, leaf),
            )
            database.execute("INSERT INTO payload VALUES (?, ?, ?)", (frame.seq, *payload))
        tiles = TileWriter().extend([leaf_hash(leaf) for leaf in log.leaves])
        database.executemany("INSERT INTO tile VALUES (?, ?, ?)", tiles)
        for size, note in zip([*log.rotated, log.size], [*log.rotations, log.checkpoint()], strict=True):
            database.execute("INSERT INTO checkpoint VALUES (?, ?)", (size, note))
    return path


def exported(journal: Path, log: SampleLog, after: int = -1, vkeys: int = 3) -> list[bytes]:
    lines: list[bytes] = []
    export_journal(journal, log.checkpoint(), log.vkeys[:vkeys], lines.append, selection=Selection(after=after))
    return lines


@pytest.mark.parametrize("named", [1, 3])
def test_the_export_proves_itself_to_whoever_has_any_of_the_keys(log: SampleLog, journal: Path, named: int) -> None:
    """However many keys the home's file names: the entries know them all."""
    lines = exported(journal, log, vkeys=named)
    assert lines == log.lines()
    for vkey in log.vkeys:
        assert verify_export(lines, vkeys=[vkey]).ok


@pytest.mark.parametrize(("after", "keys", "rotations"), [(4, 3, 2), (5, 2, 1), (6, 2, 1), (7, 1, 0), (8, 1, 0)])
def test_a_part_names_the_keys_from_where_it_begins(log: SampleLog, journal: Path, after: int, keys: int, rotations: int) -> None:
    lines = exported(journal, log, after)
    assert json.loads(lines[0])["vkeys"] == log.vkeys[3 - keys :]
    assert json.loads(lines[-1])["rotations"] == log.rotations[2 - rotations :]
    found = verify_export(lines, vkeys=log.vkeys[-1:])
    assert [str(problem.code) for problem in found.problems] == ["partial"]


def test_an_entry_is_proven_by_the_newest_key_whoever_signed_when_it_was_written(log: SampleLog, journal: Path) -> None:
    for seq in range(log.size):
        text = str(prove_entry(journal, seq, log.checkpoint()).proof)
        assert verify_entry_proof(text, vkeys=log.vkeys[-1:]).ok
        assert not verify_entry_proof(text, vkeys=log.vkeys[:1]).ok


def test_whoever_knows_the_old_key_only_is_served_by_the_head_that_both_signed(log: SampleLog, journal: Path) -> None:
    text = str(prove_entry(journal, 3, log.rotations[0]).proof)
    assert verify_entry_proof(text, vkeys=log.vkeys[:1]).ok
    assert verify_entry_proof(text, vkeys=log.vkeys[1:2]).ok


def test_a_published_log_goes_on_across_a_rotation(log: SampleLog, journal: Path, tmp_path: Path) -> None:
    folder = tmp_path / "log"
    keys = [VerifierKey.parse(vkey) for vkey in log.vkeys]
    assert export_tiles(journal, log.rotations[0], folder, keys=keys) == Published(6, (), 0)
    assert export_tiles(journal, log.checkpoint(), folder, keys=keys) == Published(3, (), 0)
    assert (folder / "checkpoint").read_text() == log.checkpoint()
