"""Where the entries of a batch go: stream versions, idempotence and guards, decided before anything is inserted."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from remediation.errors import ExpectationFailed, IdConflict
from remediation.journal.encoding import Draft, derived_id, place
from remediation.journal.store import Archiving, JournalStore, Row
from remediation.model.entries import Position, Record
from remediation.ports.journal import ANY, NO_STREAM, Expected, Guard, NewId
from remediation.ports.keys import Signer

_REMEMBERED = 4_096


@dataclass(slots=True)
class Request:
    """One call of `append`."""

    stream: str
    drafts: list[Draft]
    expected: int | Expected
    guard: Guard | None
    frame: tuple[str, str | None, str | None]
    event_id: str | None
    future: asyncio.Future[Position] = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    erases: Sequence[int] = ()
    """Entries whose bodies go with this append; the entry of the same index says so."""
    archives: Archiving | None = None
    """What goes with this append, which says so; its `by` is not known yet."""
    successor: Signer | None = None
    """The key that this append rotates to: it is the last of its commit."""

    def ids(self) -> list[str]:
        """
        The ids of the entries.

        With an event id, these derive from it, and one more follows: an entry that has it came with a longer append.
        """
        if self.event_id is None:
            return [secrets.token_hex(16) for _ in self.drafts]
        return [derived_id(self.event_id, index) for index in range(len(self.drafts) + 1)]

    def answer(self, position: Position) -> None:
        """Tell the caller, if it still waits."""
        if not self.future.done():
            self.future.set_result(position)

    def refuse(self, error: Exception) -> None:
        """Tell the caller that nothing was appended, if it still waits."""
        if self.future.done():
            return
        if isinstance(error, StopIteration):  # which no future can hold
            wrapped = RuntimeError("the guard of an append raised StopIteration")
            wrapped.__cause__ = error
            error = wrapped
        self.future.set_exception(error)


class Placing:
    """The known lengths of streams. Correct as long as every entry of the log passes `saw` or `place`, or `forget` is called."""

    def __init__(self) -> None:
        self._lengths: dict[str, int] = {}
        self._believed: set[str] = set()
        self._found: dict[str, Row] = {}
        """Stored rows, and those of this batch, by the ids that the batch asks for."""

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

        `trusting` believes callers that expect no stream, and ids that are called new: storage refuses the commit when one is wrong,
        and then it is not trusted.
        """
        self._found = {}
        for stream in self._believed:
            # Nothing was stored there after all, so nothing has shown that it was empty.
            if self._lengths.get(stream) == 0:
                del self._lengths[stream]
        if len(self._lengths) > _REMEMBERED:
            self._lengths.clear()
        unknown: set[str] = set()
        believed: set[str] = set()
        for request in batch:
            if request.drafts and request.stream not in self._lengths:
                (believed if trusting and request.expected is NO_STREAM else unknown).add(request.stream)
        self._believed = believed - unknown
        self._lengths.update(dict.fromkeys(self._believed, 0))
        if unknown:
            self._lengths.update(await store.stream_lengths(sorted(unknown)))
        named = [
            (request.event_id, request)
            for request in batch
            if request.event_id is not None and not (trusting and isinstance(request.event_id, NewId))
        ]
        if named:
            self._found = dict(await store.by_ids([name for name, _ in named]))
            more = [id_ for name, request in named if not trusting or name in self._found for id_ in request.ids()[1:]]
            if more:
                self._found.update(await store.by_ids(more))

    async def refusal(self, store: JournalStore, request: Request, error: Exception) -> Exception:
        """Why `request` is refused: an expectation that was believed and is wrong comes before what the guard said."""
        if request.stream in self._believed and not isinstance(error, ExpectationFailed | IdConflict):
            length = (await store.stream_lengths([request.stream]))[request.stream]
            if length:
                return ExpectationFailed(f"stream {request.stream} has {length} entries, not 0; read it again and decide anew")
        return error

    def place(self, request: Request, origin: str, seq: int, time: str, actor: str) -> tuple[Position, list[tuple[Row, Record]]]:
        """
        Position and rows of one request at `seq`; no rows when it was appended before. `actor` made what names no other.

        Raises:
            ExpectationFailed, IdConflict, and whatever the guard raises.

        """
        if not request.drafts:
            return Position(seq - 1, 0), []
        ids = request.ids()
        if request.event_id is not None and (position := self._earlier(request, ids)):
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
            result.append(
                place(
                    prepared,
                    origin=origin,
                    seq=seq + index,
                    event_id=ids[index],
                    stream=stream,
                    stream_seq=length + index,
                    time=time,
                    frame=(request.frame[0] or actor, *request.frame[1:]),
                )
            )
        self._lengths[stream] = length + len(result)
        if request.event_id is not None:
            self._found.update((row.event_id, row) for row, _ in result)
        return Position(seq, length), result

    def _earlier(self, request: Request, ids: Sequence[str]) -> Position | None:
        rows = [self._found.get(id_) for id_ in ids]
        first = rows[0]
        *own, beyond = rows
        if first is None:
            if any(own):
                raise IdConflict(f"an id that follows from {request.event_id} belongs to another entry; use a new id")
            return None
        longer = beyond is not None and beyond.stream == request.stream
        pairs = zip(request.drafts, own, strict=True)
        if longer or not all(row is not None and _same(prepared, row, request.stream) for prepared, row in pairs):
            raise IdConflict(f"entry {request.event_id} exists already (seq {first.seq}) with other content; use a new id")
        return Position(first.seq, first.stream_seq)


def _same(prepared: Draft, row: Row, stream: str) -> bool:
    # An erased body can't be compared any more; its place and type have to do.
    return (row.stream, row.type) == (stream, prepared.entry.type) and row.body in (None, prepared.body)
