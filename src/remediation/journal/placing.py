"""Where the entries of a batch go: stream versions, idempotence and guards, decided before anything is inserted."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterable
from dataclasses import dataclass

from remediation.errors import ExpectationFailed, IdConflict
from remediation.journal.encoding import Draft, derived_id, place
from remediation.journal.store import JournalStore, Row
from remediation.model.entries import Position, Record
from remediation.ports.journal import ANY, NO_STREAM, Expected, Guard

_REMEMBERED = 20_000


@dataclass(slots=True)
class Request:
    """One call of `append`."""

    stream: str
    drafts: list[Draft]
    expected: int | Expected
    guard: Guard | None
    frame: tuple[str, str | None, str | None]
    event_id: str | None
    future: asyncio.Future[Position]

    def answer(self, position: Position) -> None:
        """Tell the caller, if it still waits."""
        if not self.future.done():
            self.future.set_result(position)

    def refuse(self, error: Exception) -> None:
        """Tell the caller that nothing was appended, if it still waits."""
        if not self.future.done():
            self.future.set_exception(error)


class Placing:
    """The known lengths of streams. Correct as long as every entry of the log passes `saw` or `place`, or `forget` is called."""

    def __init__(self) -> None:
        self._lengths: dict[str, int] = {}
        self._found: dict[str, Row] = {}
        self._fresh: dict[str, tuple[Position, Draft]] = {}

    def forget(self) -> None:
        """Know nothing."""
        self._lengths.clear()

    def saw(self, stream: str, stream_seq: int) -> None:
        """Another process appended."""
        if stream in self._lengths:
            self._lengths[stream] = stream_seq + 1

    async def look_up(self, store: JournalStore, batch: Iterable[Request], *, trusting: bool) -> None:
        """
        Fetch what the batch needs to know and is not known.

        `trusting` believes callers that expect no stream: storage refuses the commit when one is wrong, and then it is not trusted.
        """
        self._found = {}
        self._fresh = {}
        if len(self._lengths) > _REMEMBERED:
            self._lengths.clear()
        unknown = set()
        for request in batch:
            if request.drafts and request.stream not in self._lengths:
                if trusting and request.expected is NO_STREAM:
                    self._lengths[request.stream] = 0
                else:
                    unknown.add(request.stream)
        if unknown:
            self._lengths.update(await store.stream_lengths(sorted(unknown)))
        ids = [request.event_id for request in batch if request.event_id is not None]
        if ids:
            self._found = dict(await store.by_ids(ids))

    def place(self, request: Request, origin: str, seq: int, time: str) -> tuple[Position, list[tuple[Row, Record]]]:
        """
        Position and rows of one request at `seq`; no rows when it was appended before.

        Raises:
            ExpectationFailed, IdConflict, and whatever the guard raises.

        """
        if not request.drafts:
            return Position(seq - 1, 0), []
        if request.event_id is not None and (position := self._earlier(request)):
            return position, []
        stream = request.stream
        length = self._lengths[stream]
        expected = 0 if request.expected is NO_STREAM else request.expected
        if expected is not ANY and expected != length:
            raise ExpectationFailed(f"stream {stream} has {length} entries, not {expected}; read it again and decide anew")
        if request.guard is not None:
            request.guard()
        result = []
        for index, prepared in enumerate(request.drafts):
            event_id = derived_id(request.event_id, index) if request.event_id else secrets.token_hex(16)
            result.append(
                place(
                    prepared,
                    origin=origin,
                    seq=seq + index,
                    event_id=event_id,
                    stream=stream,
                    stream_seq=length + index,
                    time=time,
                    frame=request.frame,
                )
            )
        self._lengths[stream] = length + len(result)
        position = Position(seq, length)
        if request.event_id is not None:
            self._fresh[request.event_id] = (position, request.drafts[0])
        return position, result

    def _earlier(self, request: Request) -> Position | None:
        if request.event_id is None:
            return None
        first = request.drafts[0]
        if row := self._found.get(request.event_id):
            if (row.stream, row.type) != (request.stream, first.entry.type) or row.body not in (None, first.body):
                raise IdConflict(f"entry {request.event_id} exists already (seq {row.seq}) with other content; use a new id")
            return Position(row.seq, row.stream_seq)
        if fresh := self._fresh.get(request.event_id):
            position, earlier = fresh
            if earlier.body != first.body or earlier.entry.type != first.entry.type:
                raise IdConflict(f"entry {request.event_id} was just appended with other content; use a new id")
            return position
        return None
