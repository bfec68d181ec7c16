"""Finds ids that a log uses twice, in little memory."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import blake2b


class Ids:
    """
    Finds repeated ids: 16 bytes of the id (itself, if it is as we make them, else a digest) and 7 of the position for each.

    That a repetition is overlooked is impossible, that one is reported where there is none is infeasible.
    """

    __slots__ = ("_buckets",)

    _DIGEST = 16
    _RECORD = 23

    def __init__(self) -> None:
        self._buckets = [bytearray() for _ in range(256)]

    def add(self, ids: Sequence[str], seq: int) -> None:
        """Take in the ids of the entries from `seq` on."""
        buckets = self._buckets
        together = "".join(ids)
        # What of lower-case digits stands for one number each; of others, two spellings of one number are two ids.
        if together.isascii() and together.isalnum() and together == together.lower() and {*map(len, ids)} == {32}:
            try:
                numbers = bytes.fromhex(together)
            except ValueError:
                numbers = b""
            if numbers:
                for at in range(0, len(numbers), 16):
                    buckets[numbers[at]] += numbers[at : at + 16] + seq.to_bytes(7, "big")
                    seq += 1
                return
        if len(ids) > 1:
            for number, id_ in enumerate(ids, seq):
                self.add([id_], number)
        elif ids:
            digest = blake2b(ids[0].encode(), digest_size=16).digest()
            buckets[digest[0]] += digest + seq.to_bytes(7, "big")

    def repeated(self) -> Iterable[tuple[int, int]]:
        """Pairs of positions with one id, as they were added."""
        step, cut = self._RECORD, self._DIGEST
        for bucket in self._buckets:
            records = bytes(bucket)
            ends = range(0, len(records), step)
            if len({records[at : at + cut] for at in ends}) == len(ends):
                continue
            seen: dict[bytes, int] = {}
            for at in ends:
                seq = int.from_bytes(records[at + cut : at + step], "big")
                first = seen.setdefault(records[at : at + cut], at)
                if first != at:
                    yield int.from_bytes(records[first + cut : first + step], "big"), seq
