"""
Two journals on one file against a list in memory: whatever callers do, in whatever order, both say the same.

After each run the whole home is proved from its bytes.
"""

import asyncio
import contextlib
import itertools
import shutil
import tempfile
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from tests.support.journals import Seen, audit, make_home, open_with, said

from remediation.errors import ExpectationFailed, GuardRefused, IdConflict, JournalUnavailable
from remediation.journal import IntentJournal
from remediation.journal.encoding import derived_id
from remediation.journal.store import Unit
from remediation.model.entries import Entry, HostStopped, Position, Record
from remediation.ports.journal import ANY, NO_STREAM
from remediation.stores.sqlite import SqliteJournalStore

STREAMS = ("a", "a/", "a/b", "a/b/c", "a/é", "a0", "A/b", "b", "a.", "a\U0010ffff")
HOSTS = (0, 1)
hosts = st.sampled_from(HOSTS)
streams = st.sampled_from(STREAMS)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
entries = st.lists(
    st.one_of(texts.map(said), texts.map(lambda text: HostStopped(instance="i", reason=text))), min_size=1, max_size=4
)


@dataclass(frozen=True)
class Call:
    """One append, before it is made."""

    stream: str
    entries: Sequence[Entry]
    expected: str = "any"
    guard: str = ""
    id: str = ""


@dataclass
class Model:
    """The log as a list: stream, entry, id of each."""

    log: list[tuple[str, Entry, str]] = field(default_factory=list)
    named: dict[str, tuple[int, Call]] = field(default_factory=dict)

    def length(self, stream: str) -> int:
        return sum(each == stream for each, _, _ in self.log)

    def expected(self, call: Call) -> Any:
        length = self.length(call.stream)
        return {"any": ANY, "none": NO_STREAM, "right": length, "less": length - 1, "more": length + 1}[call.expected]

    def append(self, call: Call) -> Position | type[Exception]:
        """What the journal must answer."""
        if call.id in self.named:
            seq, earlier = self.named[call.id]
            if (earlier.stream, list(earlier.entries)) != (call.stream, list(call.entries)):
                return IdConflict
            return self.position(seq)
        length = self.length(call.stream)
        if (call.expected == "none" and length) or call.expected in ("less", "more"):
            return ExpectationFailed
        if call.guard == "refuse":
            return GuardRefused
        return self.store(call)

    def store(self, call: Call) -> Position:
        seq = len(self.log)
        if call.id:
            self.named[call.id] = (seq, call)
        for index, entry in enumerate(call.entries):
            self.log.append((call.stream, entry, derived_id(call.id, index) if call.id else ""))
        return self.position(seq)

    def position(self, seq: int) -> Position:
        stream = self.log[seq][0]
        return Position(seq, sum(each == stream for each, _, _ in self.log[:seq]))

    def read(self, after: int, stream: str | None, types: Sequence[str], limit: int | None) -> list[int]:
        found = [
            seq
            for seq, (each, entry, _) in enumerate(self.log)
            if seq > after
            and (stream is None or (each.startswith(stream) if stream.endswith("/") else each == stream))
            and (not types or entry.type in types)
        ]
        return found[:limit]


class UnreliableStore(SqliteJournalStore):
    """Loses the answer to the next commit when told so, before or after it was done."""

    lose = ""

    async def commit(self, unit: Unit) -> None:
        lose, self.lose = self.lose, ""
        if lose == "before":
            raise JournalUnavailable("no answer")
        await super().commit(unit)
        if lose == "after":
            raise JournalUnavailable("no answer")


class JournalMachine(RuleBasedStateMachine):
    """Two hosts, one file."""

    @initialize()
    def begin(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="machine-"))
        self.home = make_home(self.folder)
        self.model = Model()
        self.runner = asyncio.Runner()
        self.journals: dict[int, IntentJournal] = {}
        self.seen = {host: Seen() for host in HOSTS}
        self.stores: dict[int, UnreliableStore] = {}
        self.numbers = itertools.count()
        for host in HOSTS:
            self.run(self.open(host))

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        async def bounded() -> Any:
            async with asyncio.timeout(30):
                return await coroutine

        return self.runner.run(bounded())

    async def open(self, host: int) -> None:
        self.stores[host] = UnreliableStore(self.home.journal)
        self.journals[host] = await open_with(self.home, self.seen[host], store=self.stores[host])

    def made(self, host: int, call: Call) -> Coroutine[Any, Any, Position]:
        """The call, as it is made on a journal at this point of the model."""
        seen = self.seen[host]

        def refuse() -> None:
            raise GuardRefused("no")

        def look() -> None:
            self.shown.append(len(seen.records))

        guard = {"": None, "refuse": refuse, "look": look}[call.guard]
        return self.journals[host].append(
            call.stream,
            call.entries,
            expected=self.model.expected(call),
            guard=guard,
            event_id=call.id or None,
            causation="because" if call.expected == "right" else None,
        )

    def compare(self, answers: Sequence[Any], wanted: Sequence[Position | type[Exception]]) -> None:
        for answer, want in zip(answers, wanted, strict=True):
            assert answer == want if isinstance(want, Position) else type(answer) is want, (answer, want)

    async def each(self, host: int, calls: Sequence[Call]) -> list[Any]:
        """All calls at once, in one batch, with the answers that the model gives in this order."""
        self.shown: list[int] = []
        tasks, wanted, looked = [], [], []
        for call in calls:
            # The expectation is made from the model as it will be when it is this call's turn.
            tasks.append(asyncio.ensure_future(self.made(host, call)))
            before = len(self.model.log)
            wanted.append(self.model.append(call))
            if call.guard == "look" and len(self.model.log) > before:
                looked.append(before)
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        self.compare(answers, wanted)
        # One append may evaluate its guard more than once.
        assert list(dict.fromkeys(count for count in self.shown if count in looked)) == looked
        return answers

    @rule(
        host=hosts,
        calls=st.lists(
            st.builds(
                Call,
                streams,
                entries,
                st.sampled_from(["any", "any", "none", "right", "less", "more"]),
                st.sampled_from(["", "", "refuse", "look"]),
            ),
            min_size=1,
            max_size=6,
        ),
    )
    def append(self, host: int, calls: list[Call]) -> None:
        self.run(self.each(host, calls))

    @rule(host=hosts, stream=streams, entries=entries, number=st.integers(0, 5))
    def append_with_an_id(self, host: int, stream: str, entries: list[Entry], number: int) -> None:
        self.run(self.each(host, [Call(stream, entries, id=f"id-{number}")] * 2))

    @precondition(lambda self: self.model.named)
    @rule(host=hosts, data=st.data())
    def append_again(self, host: int, data: st.DataObject) -> None:
        _, earlier = self.model.named[data.draw(st.sampled_from(sorted(self.model.named)))]
        change = data.draw(st.sampled_from(["same", "more", "fewer", "other", "elsewhere"]))
        changed = {
            "same": earlier.entries,
            "more": [*earlier.entries, said("more")],
            "fewer": earlier.entries[:-1] or [said("other")],
            "other": [*earlier.entries[:-1], said("another")],
            "elsewhere": earlier.entries,
        }[change]
        stream = "b" if change == "elsewhere" else earlier.stream
        call = Call(stream, changed, expected="none", guard="refuse", id=earlier.id)
        if call.id in self.model.named:
            self.run(self.each(host, [call, call]))

    @rule(amount=st.integers(1, 12), stream=streams)
    def both_at_once(self, amount: int, stream: str) -> None:
        """Whatever order they come in: each one's own order is kept, nothing is lost, nothing comes twice."""

        async def work() -> None:
            calls = {host: [Call(stream, [said(f"{host} {next(self.numbers)}")] * 2) for _ in range(amount)] for host in HOSTS}
            answers = await asyncio.gather(
                *(self.made(host, call) for n in range(amount) for host, some in calls.items() for call in [some[n]])
            )
            flat = [call for n in range(amount) for some in calls.values() for call in [some[n]]]
            for call, position in sorted(zip(flat, answers, strict=True), key=lambda pair: pair[1].seq):
                assert self.model.store(call) == position
            for place in HOSTS:
                mine = [position.seq for position in answers[place::2]]
                assert mine == sorted(mine)

        self.run(work())

    @rule(host=hosts, amount=st.integers(1, 20), steps=st.integers(0, 6), data=st.data())
    def cancel_callers(self, host: int, amount: int, steps: int, data: st.DataObject) -> None:
        cancelled = data.draw(st.sets(st.integers(0, amount - 1)))

        async def work() -> None:
            calls = [Call(f"c{n % 3}", [said(f"cancelled {next(self.numbers)}")] * 3) for n in range(amount)]
            tasks = [asyncio.ensure_future(self.made(host, call)) for call in calls]
            for _ in range(steps):
                await asyncio.sleep(0)
            for number in cancelled:
                tasks[number].cancel()
            answers = await asyncio.gather(*tasks, return_exceptions=True)
            await self.journals[host].append("b", [said("behind them")])
            after = [record async for record in self.journals[host].read(after=len(self.model.log) - 1)]
            there = {record.entry.reason for record in after if isinstance(record.entry, type(said("")))}
            for number, (call, answer) in enumerate(zip(calls, answers, strict=True)):
                if call.entries[0].reason in there:
                    position = self.model.store(call)
                    assert answer == position or isinstance(answer, asyncio.CancelledError)
                else:
                    assert number in cancelled
                    assert isinstance(answer, asyncio.CancelledError)
            self.model.store(Call("b", [said("behind them")]))

        self.run(work())

    @rule(host=hosts, lose=st.sampled_from(["before", "after"]), amount=st.integers(1, 5), stream=streams)
    def lose_the_answer(self, host: int, lose: str, amount: int, stream: str) -> None:
        async def work() -> None:
            calls = [Call(stream, [said(f"lost {next(self.numbers)}")], id=f"lost-{next(self.numbers)}") for _ in range(amount)]
            self.stores[host].lose = lose
            answers = await asyncio.gather(*(self.made(host, call) for call in calls), return_exceptions=True)
            assert [type(answer) for answer in answers] == [JournalUnavailable] * amount
            if lose == "after":
                for call in calls:
                    self.model.store(call)
            await self.each(host, calls[::-1])

        self.run(work())

    @rule(host=hosts)
    def reopen(self, host: int) -> None:
        self.run(self.journals[host].close())
        self.run(self.open(host))
        assert len(self.seen[host].records) == len(self.model.log)

    @rule(host=hosts)
    def publish(self, host: int) -> None:
        note = self.run(self.journals[host].publish())
        assert int(note.split("\n")[1]) <= len(self.model.log)

    @rule(
        host=hosts,
        after=st.integers(-2, 40),
        stream=st.none() | streams | st.sampled_from(["/", "c0", "missing", "a/b/"]),
        types=st.sets(st.sampled_from(["pause.ended", "host.stopped", "nothing"])),
        limit=st.none() | st.integers(0, 10),
    )
    def read(self, host: int, after: int, stream: str | None, types: set[str], limit: int | None) -> None:
        async def work() -> list[Record]:
            reading = self.journals[host].read(after=after, stream=stream, types=sorted(types), limit=limit)
            return [record async for record in reading]

        records = self.run(work())
        assert [record.seq for record in records] == self.model.read(after, stream, sorted(types), limit)
        self.check_records(records)

    @precondition(lambda self: self.model.log)
    @rule(host=hosts, data=st.data())
    def follow(self, host: int, data: st.DataObject) -> None:
        after = data.draw(st.integers(-1, len(self.model.log) - 1))

        async def work() -> None:
            other = self.journals[1 - host]
            following = self.journals[host].follow(after=after)
            async with contextlib.aclosing(following):
                for seq in range(after + 1, len(self.model.log)):
                    assert (await anext(following)).seq == seq
                coming = asyncio.ensure_future(anext(following))
                await asyncio.sleep(0)
                position = await other.append("b", [said("followed")])
                assert position == self.model.store(Call("b", [said("followed")]))
                self.check_records([await coming])

        self.run(work())

    def check_records(self, records: Sequence[Record]) -> None:
        for record in records:
            stream, entry, id_ = self.model.log[record.seq]
            assert (record.head.stream, record.entry, record.head.type) == (stream, entry, entry.type)
            assert record.head.id == id_ or not id_
            assert record.head.stream_seq == self.model.position(record.seq).stream_seq

    @invariant()
    def folds_are_the_log(self) -> None:
        if not hasattr(self, "runner"):
            return
        for host in HOSTS:
            self.run(self.journals[host].refresh())
            records = self.seen[host].records
            assert len(records) == len(self.model.log) == self.journals[host].size
            self.check_records(records[-12:])

    def teardown(self) -> None:
        if not hasattr(self, "runner"):
            return
        try:
            for journal in self.journals.values():
                self.run(journal.close())
            rows = audit(self.home)
            assert [(row.stream, row.body) for row in rows] == [(stream, entry.body()) for stream, entry, _ in self.model.log]
            for host in HOSTS:
                self.check_records(self.seen[host].records)
        finally:
            self.runner.close()
            shutil.rmtree(self.folder)


TestJournalMachine = JournalMachine.TestCase
TestJournalMachine.settings = settings(
    max_examples=30, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
)
