"""A small log made from the proof's primitives alone, without journal or database: entries in memory, signed and exported at will."""

import json
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from remediation.proof.checkpoint import Checkpoint
from remediation.proof.export import entry_line, header_line, last_line
from remediation.proof.leaf import Leaf, payload_digest
from remediation.proof.merkle import Frontier, leaf_hash
from remediation.proof.note import NoteSigner, VerifierKey
from remediation.proof.replay import Row

ORIGIN = "atlas-1/remediation/5f0c3a9be2d14b7786aa01c2d3e4f506"


def new_signer(origin: str = ORIGIN) -> NoteSigner:
    """A signer with a key of its own."""
    private = Ed25519PrivateKey.generate()
    return NoteSigner(VerifierKey(origin, private.public_key().public_bytes_raw()), private.sign)


def canonical(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()


@dataclass
class SampleLog:
    """Entries and notes of one log. Everything but its key is the same each time."""

    origin: str = ORIGIN
    signers: list[NoteSigner] = field(default_factory=list)
    leaves: list[bytes] = field(default_factory=list)
    payloads: list[tuple[bytes | None, bytes | None]] = field(default_factory=list)
    streams: dict[str, int] = field(default_factory=dict)
    rotations: list[str] = field(default_factory=list)
    rotated: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.signers = self.signers or [new_signer(self.origin)]

    @classmethod
    def of(cls, entries: int, *, streams: int = 3) -> "SampleLog":
        """A log with `entries` ordinary entries."""
        log = cls()
        for number in range(entries):
            log.add(f"incident/{number % streams:032x}", note=f"entry {number}", text='a "quoted"\nline, a \\ and ü')
        return log

    @property
    def size(self) -> int:
        return len(self.leaves)

    @property
    def signer(self) -> NoteSigner:
        return self.signers[-1]

    @property
    def vkeys(self) -> list[str]:
        return [str(signer.key) for signer in self.signers]

    def add(
        self, stream: str = "host/atlas-1", type_: str = "note.made", *, leaf: dict[str, Any] | None = None, **members: Any
    ) -> int:
        """Append an entry; `leaf` overrides fields of its leaf. Returns its position."""
        seq = self.size
        body = canonical({"v": 1, **members})
        salt = sha256(b"salt %d" % seq).digest()
        frame = Leaf(
            origin=self.origin,
            seq=seq,
            id=sha256(b"id %d" % seq).hexdigest()[:32],
            stream=stream,
            stream_seq=self.streams.get(stream, 0),
            type=type_,
            time=f"2026-03-01T12:{seq // 60 % 60:02}:{seq % 60:02}.250Z",
            actor="host:atlas-1",
            causation=None if seq == 0 else sha256(b"id %d" % (seq - 1)).hexdigest()[:32],
            correlation="c0ffee" if seq % 2 else None,
            payload=payload_digest(salt, body),
        )
        self.streams[stream] = frame.stream_seq + 1
        self.leaves.append(replace(frame, **(leaf or {})).encode())
        self.payloads.append((salt, body))
        return seq

    def erase(self, seq: int) -> int:
        """Remove a body and say so; returns the position of the entry that says it."""
        self.payloads[seq] = (None, None)
        return self.add(type_="payload.erased", seq=seq, reason="asked for")

    def rotate(self) -> NoteSigner:
        """Change to a new key."""
        old, new = self.signer, new_signer(self.origin)
        self.add(type_="key.rotated", old=str(old.key), new=str(new.key), reason="yearly")
        self.signers.append(new)
        self.rotated.append(self.size)
        self.rotations.append(self.checkpoint())
        return new

    def root(self, size: int | None = None) -> bytes:
        frontier = Frontier()
        frontier.extend([leaf_hash(leaf) for leaf in self.leaves[:size]])
        return frontier.root()

    def checkpoint(self, size: int | None = None, *, signers: list[NoteSigner] | None = None) -> str:
        """A signed note over the first `size` entries, or all."""
        size = self.size if size is None else size
        both = bool(self.rotated) and size == self.rotated[-1]
        return Checkpoint(self.origin, size, self.root(size)).sign(signers or self.signers[-2 if both else -1 :])

    def rows(self) -> list[Row]:
        return [(leaf, salt, body) for leaf, (salt, body) in zip(self.leaves, self.payloads, strict=True)]

    def table(self) -> list[Row]:
        """Rows with the columns of the database."""
        parsed = [Leaf.parse(leaf) for leaf in self.leaves]
        return [
            (leaf, salt, body, each.seq, each.id, each.stream, each.stream_seq, each.type, each.time)
            for each, leaf, (salt, body) in zip(parsed, self.leaves, self.payloads, strict=True)
        ]

    def lines(self) -> list[bytes]:
        """The lines of the export."""
        entries = [entry_line(leaf, salt, body) for leaf, (salt, body) in zip(self.leaves, self.payloads, strict=True)]
        return [header_line(self.origin, self.vkeys), *entries, last_line(self.checkpoint(), self.rotations)]
