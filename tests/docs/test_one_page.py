"""The page's program for one entry: it accepts what is genuine and nothing else, as a process without our package."""

import base64
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.support.examples import blocks
from tests.support.sample_log import SampleLog, new_signer

from remediation.proof import TlogProof, entry_proof, hashes_of, inclusion_proof, leaf_hash, verify_entry_proof

PAGE = Path(__file__).parents[2] / "docs/howto/verify-without-our-software.md"
PROGRAMS = {block.file: block.text for block in blocks(PAGE.name, PAGE.read_text(encoding="utf-8")) if block.language == "python"}
LOG = SampleLog.of(11)
VKEY = LOG.vkeys[0]

Run = Callable[..., subprocess.CompletedProcess[str]]


def proven(log: SampleLog, seq: int) -> tuple[TlogProof, bytes | None]:
    hashes = inclusion_proof(seq, log.size, hashes_of([leaf_hash(leaf) for leaf in log.leaves]))
    return entry_proof(seq, hashes, log.checkpoint(), log.leaves[seq], *log.payloads[seq])


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Runs the page's program in a directory of its own, without this project's packages or variables."""
    for name, text in PROGRAMS.items():
        (tmp_path / str(name)).write_text(text, encoding="utf-8")

    def work(proof: str, vkey: str = VKEY, body: bytes | None = None) -> subprocess.CompletedProcess[str]:
        (tmp_path / "proof").write_text(proof, encoding="utf-8")
        (tmp_path / "body").write_bytes(body or b"")
        command = [sys.executable, "-E", "-S", "-X", "utf8", "one.py", "proof", vkey, *([] if body is None else ["body"])]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, encoding="utf-8", timeout=60, check=False)

    return work


def test_the_program_needs_nothing_of_ours() -> None:
    assert len(PROGRAMS["one.py"].splitlines()) <= 60
    assert "remediation." not in PROGRAMS["one.py"]


def test_each_entry_is_genuine_to_the_page_and_to_us(run: Run) -> None:
    for seq in range(LOG.size):
        text = str(proven(LOG, seq)[0])
        ran = run(text)
        assert ran.returncode == 0, ran.stderr
        assert ran.stdout.startswith(f"genuine: entry {seq} of 11: note.made in ")
        assert f'"note": "entry {seq}"' in ran.stdout
        assert verify_entry_proof(text, vkeys=[VKEY]).ok


def test_an_erased_and_a_long_entry_are_genuine(run: Run) -> None:
    log = SampleLog.of(3)
    log.add(text="x" * 60_000)
    log.erase(1)
    assert "its body was erased" in run(str(proven(log, 1)[0]), log.vkeys[0]).stdout
    proof, body = proven(log, 3)
    assert run(str(proof), log.vkeys[0], body).returncode == 0
    assert body is not None
    assert run(str(proof), log.vkeys[0], body.replace(b"x", b"y", 1)).returncode == 1
    assert run(str(proof), log.vkeys[0]).returncode == 1


PROOF = proven(LOG, 4)[0]
TEXT = str(PROOF)
HASHES = TEXT.split("\n")[3:6]


def with_entry(**changes: object) -> str:
    members = json.loads(PROOF.extra or b"") | changes
    extra = json.dumps(members, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()
    return str(TlogProof(PROOF.index, PROOF.hashes, PROOF.checkpoint, extra))


TAMPERED = {
    "empty": "",
    "cut off": TEXT[:-20],
    "another version": TEXT.replace("@v1", "@v2", 1),
    "no entry": str(TlogProof(PROOF.index, PROOF.hashes, PROOF.checkpoint)),
    "another index": TEXT.replace("index 4", "index 5", 1),
    "a leading zero": TEXT.replace("index 4", "index 04", 1),
    "an index beyond": TEXT.replace("index 4", "index 11", 1),
    "a negative index": TEXT.replace("index 4", "index -4", 1),
    "hashes swapped": TEXT.replace("\n".join(HASHES[:2]), "\n".join(HASHES[1::-1]), 1),
    "a hash fewer": TEXT.replace(HASHES[0] + "\n", "", 1),
    "a hash more": TEXT.replace(HASHES[0], HASHES[0] + "\n" + HASHES[0], 1),
    "a short hash": TEXT.replace(HASHES[0], base64.b64encode(b"x" * 31).decode(), 1),
    "another entry": with_entry(leaf=LOG.leaves[5].decode()),
    "another body": with_entry(body="{}"),
    "another salt": with_entry(salt="00" * 32),
    "a short salt": with_entry(salt="00" * 31),
    "no salt": with_entry(salt=None),
    "another size": TEXT.replace("\n11\n", "\n12\n", 1),
    "a stranger's checkpoint": str(TlogProof(4, PROOF.hashes, LOG.checkpoint(signers=[new_signer()]), PROOF.extra)),
    "an earlier checkpoint": str(TlogProof(4, PROOF.hashes, LOG.checkpoint(9), PROOF.extra)),
}


@pytest.mark.parametrize("how", TAMPERED)
def test_a_tampered_proof_is_not_genuine(run: Run, how: str) -> None:
    assert TAMPERED[how] != TEXT
    ran = run(TAMPERED[how])
    assert (ran.returncode, ran.stdout) == (1, ""), how
    assert "NOT GENUINE" in ran.stderr
    assert not verify_entry_proof(TAMPERED[how], vkeys=[VKEY]).ok, "our own verification must not accept it either"


def test_another_key_proves_nothing(run: Run) -> None:
    assert run(TEXT, str(new_signer().key)).returncode == 1
