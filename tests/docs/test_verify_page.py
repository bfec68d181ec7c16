"""The page for auditors: its program accepts what is genuine and nothing else, as a process without our package."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from tests.support.examples import blocks
from tests.support.sample_log import SampleLog, canonical, new_signer

from remediation.proof.export import verify_export

PAGE = Path(__file__).parents[2] / "docs/howto/verify-without-our-software.md"
PROGRAM = next(block.text for block in blocks(PAGE.name, PAGE.read_text(encoding="utf-8")) if block.file == "verify.py")


def sample() -> SampleLog:
    log = SampleLog.of(5)
    log.add('stream "quoted" ü', text="escapes \\ and \x01 controls")
    log.erase(2)
    log.rotate()
    log.add(note="by the new key")
    return log


LOG = sample()
LINES = LOG.lines()


@pytest.fixture
def verify(tmp_path):
    """Runs the page's program: isolated, in an empty directory, without this project's packages or variables."""
    program = tmp_path / "verify.py"
    program.write_text(PROGRAM, encoding="utf-8")

    def run(lines: list[bytes], vkey: str = LOG.vkeys[0], head: str | None = None) -> subprocess.CompletedProcess[str]:
        (tmp_path / "journal.jsonl").write_bytes(b"".join(lines))
        (tmp_path / "head.note").write_text(head or "", encoding="utf-8")
        more = [] if head is None else ["head.note"]
        return subprocess.run(
            [sys.executable, "-I", "-S", "-X", "utf8", str(program), "journal.jsonl", vkey, *more],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            encoding="utf-8",
            timeout=60,
            check=False,
        )

    return run


def test_the_program_fits_a_page_and_needs_nothing_of_ours():
    assert len(PROGRAM.splitlines()) <= 140
    assert "remediation." not in PROGRAM
    assert "import cryptography" not in PROGRAM


def test_a_genuine_file_is_genuine_to_the_page_and_to_us(verify):
    ran = verify(LINES)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.startswith(f"genuine: {LOG.size} entries of {LOG.origin}, 1 bodies erased\nroot ")
    assert verify_export(LINES, vkeys=LOG.vkeys[:1]).root in ran.stdout


def test_an_empty_log_and_one_without_rotation_are_genuine(verify):
    for log in (SampleLog.of(0), SampleLog.of(1), SampleLog.of(300)):
        ran = verify(log.lines(), log.vkeys[0])
        assert ran.returncode == 0, ran.stderr


def test_any_key_of_the_log_will_do_and_no_other(verify):
    assert verify(LINES, LOG.vkeys[1]).returncode == 0
    assert verify(LINES, str(new_signer().key)).returncode == 1


@pytest.mark.parametrize("size", [0, 3, LOG.rotated[0] - 1, LOG.rotated[0], LOG.size])
def test_a_head_that_is_continued_is_accepted(verify, size):
    old, new = LOG.signers
    signers = [old] if size < LOG.rotated[0] else [old, new] if size == LOG.rotated[0] else [new]
    ran = verify(LINES, head=LOG.checkpoint(size, signers=signers))
    assert ran.returncode == 0, ran.stderr


def test_a_log_behind_or_beside_the_head_is_refused(verify):
    longer = SampleLog(signers=LOG.signers[:1])
    for number in range(12):
        longer.add(note=f"another history {number}")
    behind = verify(LINES, head=longer.checkpoint())
    assert behind.returncode == 1
    assert "rolled back" in behind.stderr
    beside = verify(LINES, head=longer.checkpoint(4))
    assert beside.returncode == 1
    assert "not a continuation" in beside.stderr


def edited(number: int, **changes: object) -> list[bytes]:
    members = json.loads(LINES[number])
    return [*LINES[:number], canonical(members | changes) + b"\n", *LINES[number + 1 :]]


def edited_inside(number: int, part: str, **changes: object) -> list[bytes]:
    inner = json.loads(json.loads(LINES[number])[part])
    return edited(number, **{part: canonical(inner | changes).decode()})


NOTE = json.loads(LINES[-1])["checkpoint"]
ROTATION = json.loads(LINES[-1])["rotations"][0]
TAMPERED = {
    "a line is gone": [*LINES[:3], *LINES[4:]],
    "a line is there twice": [*LINES[:3], LINES[3], *LINES[3:]],
    "two lines are swapped": [*LINES[:3], LINES[4], LINES[3], *LINES[5:]],
    "the end is gone": LINES[:-1],
    "the last byte is gone": [*LINES[:-1], LINES[-1][:-1]],
    "everything is gone": [],
    "the last entries are gone": [*LINES[:5], LINES[-1]],
    "something follows": [*LINES, b"{}\n"],
    "a blank line follows": [*LINES, b"\n"],
    "a blank line": [*LINES[:3], b"\n", *LINES[3:]],
    "a space": [*LINES[:3], LINES[3].replace(b'","', b'", "', 1), *LINES[4:]],
    "a carriage return": [*LINES[:3], LINES[3][:-1] + b"\r\n", *LINES[4:]],
    "a repeated key": [*LINES[:3], b'{"salt":null,' + LINES[4][1:], *LINES[5:]],
    "no UTF-8": [*LINES[:3], LINES[4].replace(b"entry", b"\xff"), *LINES[5:]],
    "another body": edited_inside(2, "body", note="entry 2"),
    "another body of another style": edited(2, body=json.loads(LINES[2])["body"] + " "),
    "another salt": edited(2, salt="00" * 32),
    "the same salt in capitals": edited(2, salt=json.loads(LINES[2])["salt"].upper()),
    "a body that nobody erased is gone": edited(2, body=None, salt=None),
    "a body alone is gone": edited(2, body=None),
    "a salt alone is gone": edited(2, salt=None),
    "an erased body is back": edited(3, body="{}", salt="00" * 32),
    "another time": edited_inside(2, "leaf", time="2026-03-01T12:00:02.250Z"),
    "another actor": edited_inside(2, "leaf", actor="host:atlas-2"),
    "another type": edited_inside(2, "leaf", type="note.unmade"),
    "another position": edited_inside(2, "leaf", seq=2),
    "another log": edited_inside(2, "leaf", origin="atlas-2/remediation/0"),
    "a leaf with a space": edited(2, leaf=json.loads(LINES[2])["leaf"].replace(",", ", ", 1)),
    "another format": edited(0, format="remediation-journal/2"),
    "another start": edited(0, **{"from": 1}),
    "false for 0": edited(0, **{"from": False}),
    "another origin": edited(0, origin="atlas-2/remediation/0"),
    "one key fewer": edited(0, vkeys=LOG.vkeys[:1]),
    "one key more": edited(0, vkeys=[*LOG.vkeys, str(new_signer().key)]),
    "the keys the other way round": edited(0, vkeys=LOG.vkeys[::-1]),
    "no rotation": edited(len(LINES) - 1, rotations=[]),
    "the rotation twice": edited(len(LINES) - 1, rotations=[ROTATION, ROTATION]),
    "the rotation signed by one": edited(len(LINES) - 1, rotations=[LOG.checkpoint(LOG.rotated[0], signers=LOG.signers[:1])]),
    "the rotation as checkpoint": edited(len(LINES) - 1, checkpoint=ROTATION),
    "an older checkpoint": edited(len(LINES) - 1, checkpoint=LOG.checkpoint(5)),
    "a checkpoint by the old key": edited(len(LINES) - 1, checkpoint=LOG.checkpoint(signers=LOG.signers[:1])),
    "a checkpoint by a stranger": edited(len(LINES) - 1, checkpoint=LOG.checkpoint(signers=[new_signer()])),
    "an altered signature": edited(len(LINES) - 1, checkpoint=NOTE[:-10] + ("A" if NOTE[-10] != "A" else "B") + NOTE[-9:]),
    "an altered size": edited(len(LINES) - 1, checkpoint=NOTE.replace(f"\n{LOG.size}\n", f"\n0{LOG.size}\n")),
    "no signature": edited(len(LINES) - 1, checkpoint=NOTE.partition("\n\n")[0] + "\n\n"),
    "the signature twice": edited(len(LINES) - 1, checkpoint=NOTE + NOTE.partition("\n\n")[2]),
}


@pytest.mark.parametrize("how", TAMPERED)
def test_a_tampered_file_is_not_genuine(verify, how):
    assert TAMPERED[how] != LINES
    ran = verify(TAMPERED[how])
    assert ran.returncode == 1, how
    assert ran.stdout == ""
    assert "NOT GENUINE" in ran.stderr
    assert not verify_export(TAMPERED[how], vkeys=LOG.vkeys[:1]).ok, "our own verification must not accept it either"


def test_wrong_use_is_explained(verify, tmp_path):
    program = tmp_path / "verify.py"
    ran = subprocess.run([sys.executable, "-I", str(program)], capture_output=True, text=True, check=False)
    assert ran.returncode == 1
    assert "python3 verify.py EXPORT VKEY" in ran.stderr
