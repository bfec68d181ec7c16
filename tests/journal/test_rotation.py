"""The signing key is exchanged: in one process, under others that append, across kills, and never back."""

import asyncio
import contextlib
import os
import shutil
import sqlite3
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.support.journals import entries_of, make_home, open_with, opened

from remediation.bootstrap import open_journal
from remediation.bootstrap.keys import RotationUnderWay, exchanging, open_keys, rotate
from remediation.bootstrap.recovering import recover
from remediation.core.state import HostState
from remediation.errors import ConfigurationError, GuardRefused, JournalDamaged, JournalError, JournalRolledBack, JournalUnavailable
from remediation.journal import IntentJournal
from remediation.keys import SigningKey
from remediation.keys.file_store import FileKeyStore
from remediation.model.entries import KeyRotated
from remediation.ports.clock import SystemClock
from remediation.ports.keys import KeyPlace
from remediation.proof import (
    Checkpoint,
    Note,
    NoteError,
    ProblemCode,
    ProblemKind,
    Verification,
    VerifierKey,
    open_checkpoint,
    verify_export,
)
from remediation.proof.anchored import Anchored
from remediation.settings import Home
from remediation.stores.auditing import verify_journal
from remediation.stores.exporting import export_journal
from remediation.stores.publishing import export_tiles


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return make_home(tmp_path)


def vkeys(home: Home) -> list[str]:
    return home.verifier_keys.read_text().split()


def origin(home: Home) -> str:
    return vkeys(home)[0].partition("+")[0]


def checkpoints(home: Home) -> dict[int, str]:
    with contextlib.closing(sqlite3.connect(home.journal)) as database:
        return dict(database.execute("SELECT size, note FROM checkpoint"))


def signers(note: str, keys: Sequence[str]) -> list[int]:
    """Which of `keys` signed a note, in the order of its lines; each line must be of one of them."""
    parsed = Note.parse(note)
    found = [keys.index(str(key)) for key in parsed.opened_by([VerifierKey.parse(key) for key in keys])]
    assert len(found) == len(parsed.signatures)
    return found


async def rotated(home: Home, journal: IntentJournal, reason: str = "") -> int:
    return (await rotate(home, open_keys(home), journal, reason)).seq


async def rotate_alone(home: Home) -> int:
    journal = await open_journal(home, SystemClock())
    try:
        return await rotated(home, journal)
    finally:
        await journal.close()


def verified(home: Home, *given: str, **known: Any) -> Verification:
    known.setdefault("known_head", home.head_note.read_text())
    return verify_journal(home.journal, own=vkeys(home), vkeys=given, **known)


def exported(home: Home, note: str | None = None) -> list[bytes]:
    lines: list[bytes] = []
    export_journal(home.journal, note or home.head_note.read_text(), vkeys(home), lines.append)
    return lines


def codes(verdict: Verification) -> set[ProblemCode]:
    return {problem.code for problem in verdict.problems}


async def test_notes_are_signed_by_the_old_key_by_both_and_by_the_new_one(home: Home) -> None:
    async with opened(home) as journal:
        await journal.append("s", entries_of(1, 2))
        before = await journal.publish()
        at = await rotated(home, journal, "yearly")
        both = checkpoints(home)[at + 1]
        await journal.append("s", entries_of(3))
        after = await journal.publish()
        keys = vkeys(home)
        assert [signers(note, keys) for note in (before, both, after)] == [[0], [0, 1], [1]]
        assert checkpoints(home)[at + 1] == both, "the note of a rotation is kept"
        assert [str(key) for key in journal.keys] == keys
        records = [record async for record in journal.read(types=["key.rotated"])]
        assert [record.seq for record in records] == [at] == [2]
        entry = records[0].entry
        assert entry == KeyRotated(old=keys[0], new=keys[1], reason="yearly")
    assert verified(home).ok
    assert verified(home, keys[0]).ok
    assert verified(home, keys[1]).ok
    assert verify_export(exported(home), vkeys=keys[:1]).ok


async def test_entries_name_the_key_that_signs_them(tmp_path: Path, home: Home) -> None:
    journal = await open_journal(home, SystemClock())
    try:
        await journal.append("s", entries_of(1))
        await rotated(home, journal)
        await journal.append("s", entries_of(2))
        actors = [record.head.actor async for record in journal.read(stream="s")]
    finally:
        await journal.close()
    assert actors == [f"key:{VerifierKey.parse(key).key_id.hex()}" for key in vkeys(home)]


async def test_a_rotation_is_the_last_entry_of_its_commit_whoever_appends_beside_it(home: Home) -> None:
    async with opened(home) as journal:
        successor = SigningKey.generate()
        jobs = [asyncio.create_task(journal.append("s", entries_of(n))) for n in range(5)]
        turn = asyncio.create_task(journal.rotate(successor))
        await asyncio.sleep(0)
        jobs += [asyncio.create_task(journal.append("s", entries_of(n))) for n in range(5, 10)]
        await asyncio.gather(*jobs)
        at = (await turn).seq
        keys = [str(key) for key in journal.keys]
        notes = checkpoints(home)
        assert signers(notes[at + 1], keys) == [0, 1]
        assert all(signers(note, keys) == [0 if size <= at else 1] for size, note in notes.items() if size != at + 1)


async def test_only_a_rotation_says_that_the_key_was_rotated(home: Home) -> None:
    async with opened(home) as journal:
        with pytest.raises(GuardRefused, match="keys rotate"):
            await journal.append("s", [KeyRotated(old="a", new="b")])
        assert journal.size == 0


async def test_the_old_private_key_is_overwritten_and_gone(home: Home, tmp_path: Path) -> None:
    old = home.signing_key.read_bytes()
    os.link(home.signing_key, tmp_path / "another name")
    await rotate_alone(home)
    assert (tmp_path / "another name").read_bytes() == bytes(len(old))
    assert sorted(path.name for path in home.keys.iterdir()) == [
        "head.note",
        "head.note.acknowledged",
        "home",
        "rotation.lock",
        "signing.key",
        "signing.vkey",
    ]
    assert stat.S_IMODE(home.signing_key.stat().st_mode) == 0o600
    assert str(SigningKey.load(home.signing_key).vkey(origin(home))) == vkeys(home)[1]


async def test_a_host_that_runs_signs_with_the_new_key_after_another_process_rotated(home: Home) -> None:
    async with opened(home) as running, opened(home) as second:
        await running.append("s", entries_of(1))
        await second.append("s", entries_of(2))
        for turn in range(4):
            await rotate_alone(home)
            await (running, second)[turn // 2].append("s", entries_of(turn))
            _, note = await running.head()
            assert signers(note, vkeys(home)) == [turn + 1]
        await asyncio.gather(running.append("s", entries_of("a")), second.append("s", entries_of("b")))
        assert [str(key) for key in running.keys] == vkeys(home)
    assert verified(home).ok
    assert verify_export(exported(home), vkeys=vkeys(home)[:1]).ok


async def test_a_process_that_can_not_get_the_new_key_can_not_append(home: Home, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(home.keys, elsewhere)
    apart = FileKeyStore(KeyPlace(elsewhere, "atlas", lambda what: b""))
    journal = await open_journal(home, SystemClock(), keys=apart)
    try:
        await journal.append("s", entries_of(1))
        await rotate_alone(home)
        for _ in range(2):
            with pytest.raises(JournalUnavailable, match=r"key of the journal was rotated.*can't get the new one.*is not in"):
                await journal.append("s", entries_of("never"))
        shutil.copy(home.signing_key, elsewhere / "signing.key")
        assert (await journal.append("s", entries_of(2))).seq == 2
    finally:
        await journal.close()
    assert verified(home).ok


async def test_a_retired_key_does_not_open_the_journal(home: Home) -> None:
    kept = home.signing_key.read_bytes()
    await rotate_alone(home)
    home.signing_key.write_bytes(kept)
    with pytest.raises((ConfigurationError, JournalError), match="is not in"):
        await open_journal(home, SystemClock())


async def test_two_rotations_at_once_are_one_and_a_refusal(home: Home) -> None:
    async with opened(home) as first, opened(home) as second:
        done = await asyncio.gather(rotated(home, first), rotated(home, second), return_exceptions=True)
        assert sorted(type(answer).__name__ for answer in done) == ["RotationUnderWay", "int"]
        assert len(first.keys) == 2
        with exchanging(home), pytest.raises(RotationUnderWay, match="another process"):
            await rotated(home, first)
    assert len(vkeys(home)) == 2


async def test_a_key_that_was_the_logs_before_is_not_taken_again(home: Home) -> None:
    first = SigningKey.load(home.signing_key)
    async with opened(home) as journal:
        with pytest.raises(GuardRefused):
            await journal.rotate(first)
        await rotated(home, journal)
        with pytest.raises(GuardRefused):
            await journal.rotate(first)
        assert journal.size == 1


async def test_a_snapshot_of_the_old_key_is_not_believed_and_the_state_is_the_same(home: Home) -> None:
    state = HostState()
    journal = await open_journal(home, SystemClock(), state=state)
    await journal.append("s", entries_of(*range(20)))
    await journal.close()
    snapshot = home.root / "snapshot.bin"
    old = snapshot.read_bytes()
    await rotate_alone(home)
    snapshot.write_bytes(old)
    again = HostState()
    journal = await open_journal(home, SystemClock(), state=again)
    await journal.close()
    assert (again.position, state.position) == (20, 19)
    assert snapshot.read_bytes() != old


async def test_a_copy_of_before_the_rotation_is_rolled_back(home: Home, tmp_path: Path) -> None:
    async with opened(home) as journal:
        await journal.append("s", entries_of(1))
    shutil.copy(home.journal, tmp_path / "old")
    await rotate_alone(home)
    shutil.copy(tmp_path / "old", home.journal)
    for suffix in ("-wal", "-shm"):
        home.journal.with_name(home.journal.name + suffix).unlink(missing_ok=True)
    with pytest.raises(JournalRolledBack):
        await open_journal(home, SystemClock())
    later = home.head_note.read_text()
    measures: list[dict[str, Any]] = [
        {},
        {"anchors": [Anchored("elsewhere", (later,))]},
        {"head": later},
        {"vkeys": vkeys(home), "head": later},
    ]
    for measure in measures:
        verdict = verify_journal(home.journal, **{"own": vkeys(home), "known_head": later, **measure})
        assert {problem.kind for problem in verdict.problems} == {ProblemKind.ROLLED_BACK}, verdict.problems
        assert (verdict.proven, verdict.consistent) == (1, True), "what is there is as it was signed"
    forgotten = verify_journal(home.journal, own=vkeys(home))
    assert codes(forgotten) == {ProblemCode.BEHIND_HEAD}, "the list of keys alone tells of the rotation"
    assert (await asyncio.to_thread(recover, home, "atlas")).proven == 1


# -- verification ------------------------------------------------------------------------------------------------------------------


async def test_several_keys_given_make_no_chain_that_the_log_does_not_have(home: Home) -> None:
    """Given keys are what the verifier knows, never what the log says of itself."""
    async with opened(home) as journal:
        await journal.append("s", entries_of(1))
    (own,) = vkeys(home)
    other = str(SigningKey.generate().vkey(origin(home)))
    foreign = str(SigningKey.generate().vkey("elsewhere/remediation/0123"))
    assert verified(home, own, other).ok
    assert verified(home, foreign, own).ok
    assert not verified(home, other, foreign).ok
    await rotate_alone(home)
    await rotate_alone(home)
    first, second, third = vkeys(home)
    for some in (
        [first],
        [second],
        [third],
        [first, third],
        [first, second, third],
        [first, other],
        [second, third],
        [third, second],
    ):
        verdict = verified(home, *some)
        assert (verdict.ok, verdict.key) == (True, third), some


async def test_a_log_begun_anew_by_a_later_key_is_not_the_one_whose_first_key_is_known(home: Home, tmp_path: Path) -> None:
    """Whoever steals the present key can't pass off a log of their own as one whose earlier keys the verifier knows."""
    await rotate_alone(home)
    first, second = vkeys(home)
    stolen = SigningKey.load(home.signing_key)
    forged = make_home(tmp_path / "forged")
    forged.signing_key.unlink()
    shutil.copy(home.signing_key, forged.signing_key)
    empty = Checkpoint(origin(home), 0, Checkpoint.parse(Note.parse(forged.head_note.read_text()).text).root)
    note = empty.sign([stolen.signer(origin(home))])
    forged.head_note.write_text(note)
    with contextlib.closing(sqlite3.connect(forged.journal)) as database, database:
        database.execute("UPDATE checkpoint SET note = ?", (note,))
    async with opened(forged) as journal:
        await journal.append("s", entries_of("lies"))
    shutil.copy(home.verifier_keys, forged.verifier_keys)
    assert codes(verified(forged, first, second)) == {ProblemCode.KEYS}
    assert not verified(forged, first).ok
    assert codes(verified(forged)) == {ProblemCode.KEYS}
    forged.verifier_keys.write_text(f"{second}\n")
    assert codes(verify_export(exported(forged), vkeys=[first, second])) == {ProblemCode.KEYS}


async def test_a_list_of_keys_that_lags_behind_the_log_is_no_tampering_and_behind_one_that_is_ahead_something_is_missing(
    home: Home,
) -> None:
    await rotate_alone(home)
    first, second = vkeys(home)
    home.verifier_keys.write_text(f"{first}\n")
    assert verified(home).ok
    home.verifier_keys.write_text(f"{first}\n{second}\n{SigningKey.generate().vkey(origin(home))}\n")
    assert codes(verified(home)) == {ProblemCode.BEHIND_HEAD}
    home.verifier_keys.write_text(f"{first}\n{SigningKey.generate().vkey(origin(home))}\n")
    assert codes(verified(home)) == {ProblemCode.KEYS}


@pytest.mark.parametrize("who", ["old", "new", "nobody's", "both, the new one first", "both, and a third"])
async def test_the_note_of_a_rotation_bears_both_signatures_and_no_others(home: Home, who: str) -> None:
    old = SigningKey.load(home.signing_key)
    at = await rotate_alone(home)
    new = SigningKey.load(home.signing_key)
    async with opened(home) as journal:
        await journal.append("s", entries_of(1))
    name, stranger = origin(home), SigningKey.generate()
    signed_by = {
        "old": [old],
        "new": [new],
        "nobody's": [stranger],
        "both, the new one first": [new, old],
        "both, and a third": [old, new, stranger],
    }[who]
    note = Checkpoint.parse(Note.parse(checkpoints(home)[at + 1]).text).sign([key.signer(name) for key in signed_by])
    with contextlib.closing(sqlite3.connect(home.journal)) as database, database:
        database.execute("UPDATE checkpoint SET note = ? WHERE size = ?", (note, at + 1))
    assert codes(verified(home)) >= {ProblemCode.SIGNATURE}
    assert not verify_export(exported(home), vkeys=vkeys(home)[:1]).ok
    with pytest.raises(JournalDamaged, match="not signed by both keys"):
        await open_journal(home, SystemClock())


async def test_a_later_head_by_the_old_key_is_refused_everywhere(home: Home) -> None:
    old = SigningKey.load(home.signing_key)
    running = await open_with(home)
    try:
        await rotate_alone(home)
        async with opened(home) as journal:
            await journal.append("s", entries_of(1))
        genuine = checkpoints(home)
        newest = max(genuine)
        forged = Checkpoint.parse(Note.parse(genuine[newest]).text).sign([old.signer(origin(home))])
        with contextlib.closing(sqlite3.connect(home.journal)) as database, database:
            database.execute("UPDATE checkpoint SET note = ? WHERE size = ?", (forged, newest))
        assert codes(verified(home)) >= {ProblemCode.SIGNATURE}
        lines = exported(home, forged)
        assert ProblemCode.SIGNATURE in codes(verify_export(lines, vkeys=vkeys(home)))
        with pytest.raises(JournalDamaged, match="not signed by this home's key"):
            await open_journal(home, SystemClock())
        with pytest.raises(JournalDamaged):
            await running.append("s", entries_of("never"))
    finally:
        await running.close()


async def test_published_tiles_end_with_a_note_of_the_key_of_their_size(home: Home, tmp_path: Path) -> None:
    for turn in range(2):
        await rotate_alone(home)
        folder = tmp_path / f"tiles{turn}"
        folder.mkdir()
        export_tiles(home.journal, home.head_note.read_text(), folder, keys=[VerifierKey.parse(key) for key in vkeys(home)])
        assert signers((folder / "checkpoint").read_text(), vkeys(home)) == [turn, turn + 1]
    async with opened(home) as journal:
        await journal.append("s", entries_of(1))
        note = await journal.publish()
    (tmp_path / "later").mkdir()
    export_tiles(home.journal, note, tmp_path / "later", keys=[VerifierKey.parse(key) for key in vkeys(home)])
    published = (tmp_path / "later" / "checkpoint").read_text()
    first, _, third = [VerifierKey.parse(key) for key in vkeys(home)]
    assert open_checkpoint(published, [third]).checkpoint.size == 3
    with pytest.raises(NoteError):
        open_checkpoint(published, [first])
