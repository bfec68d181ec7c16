"""
Proofs about a journal, for those who don't run one: the tree, signed notes, and the verification of a whole log.

Usable alone, with the standard library and `cryptography`: a stranger who audits a log needs nothing else of this package. It must
not touch a database, the network or a clock, must not write, must not hold a secret (signing is a function that the caller passes),
and must not import the model: it judges bytes, not meanings. The formats are specified in ``docs/specs/journal-format-v1.md``.
"""

from __future__ import annotations

from remediation.proof.anchored import Anchored, heads_of
from remediation.proof.checkpoint import Checkpoint, OpenedCheckpoint, open_checkpoint
from remediation.proof.errors import NoteError, ProofError, SignatureRefused, TileMissing, TlogProofError
from remediation.proof.evidence import BodyState, EntryVerification, entry_proof, verify_entry_proof
from remediation.proof.export import FORMAT, entry_line, header_line, last_line, verify_export, verify_export_file
from remediation.proof.judge import Claims, Knowledge, claimed_size, judge
from remediation.proof.leaf import Leaf, payload_digest
from remediation.proof.merkle import (
    EMPTY_ROOT,
    Frontier,
    HashSource,
    consistency_proof,
    hashes_of,
    inclusion_proof,
    leaf_hash,
    node_hash,
    root_of,
    verify_consistency,
    verify_inclusion,
)
from remediation.proof.note import Note, NoteSigner, Signature, VerifierKey, sign_note
from remediation.proof.plain import Row
from remediation.proof.replay import Replay, Rotation
from remediation.proof.tiles import (
    Tile,
    TileWriter,
    bundled_leaves,
    completed,
    entry_bundle,
    tile_hashes,
    tile_path,
    tiles_of,
    width_of,
)
from remediation.proof.tlogproof import TlogProof
from remediation.proof.verdict import AnchorFinding, Problem, ProblemCode, ProblemKind, Verification

__all__ = [
    "EMPTY_ROOT",
    "FORMAT",
    "AnchorFinding",
    "Anchored",
    "BodyState",
    "Checkpoint",
    "Claims",
    "EntryVerification",
    "Frontier",
    "HashSource",
    "Knowledge",
    "Leaf",
    "Note",
    "NoteError",
    "NoteSigner",
    "OpenedCheckpoint",
    "Problem",
    "ProblemCode",
    "ProblemKind",
    "ProofError",
    "Replay",
    "Rotation",
    "Row",
    "Signature",
    "SignatureRefused",
    "Tile",
    "TileMissing",
    "TileWriter",
    "TlogProof",
    "TlogProofError",
    "Verification",
    "VerifierKey",
    "bundled_leaves",
    "claimed_size",
    "completed",
    "consistency_proof",
    "entry_bundle",
    "entry_line",
    "entry_proof",
    "hashes_of",
    "header_line",
    "heads_of",
    "inclusion_proof",
    "judge",
    "last_line",
    "leaf_hash",
    "node_hash",
    "open_checkpoint",
    "payload_digest",
    "root_of",
    "sign_note",
    "tile_hashes",
    "tile_path",
    "tiles_of",
    "verify_consistency",
    "verify_entry_proof",
    "verify_export",
    "verify_export_file",
    "verify_inclusion",
    "width_of",
]
