"""What an append promises its caller: place, expectation, guard, idempotence, refusal."""

import asyncio
from pathlib import Path

import pytest
from tests.support.journals import Seen, audit, entries_of, head_size, make_home, opened, said, texts

from remediation.errors import ExpectationFailed, GuardRefused, IdConflict, JournalUnavailable, NotCanonical
from remediation.model.entries import HostStopped, Position
from remediation.ports.journal import ANY, NO_STREAM, NewId
from remediation.settings import Home


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return make_home(tmp_path)


async def test_positions_count_from_zero_in_the_log_and_in_each_stream(home: Home) -> None:
    async with opened(home) as journal:
        assert await journal.append("a", entries_of(1, 2)) == Position(0, 0)
        assert await journal.append("b", entries_of(3)) == Position(2, 0)
        assert await journal.append("a", entries_of(4)) == Position(3, 2)
        assert journal.size == 4
    assert [(row.stream, row.stream_seq) for row in audit(home)] == [("a", 0), ("a", 1), ("b", 0), ("a", 2)]


@pytest.mark.parametrize("reopened", [False, True])
async def test_an_expectation_holds_against_the_stored_stream(home: Home, reopened: bool) -> None:
    async with opened(home) as journal:
        await journal.append("s", entries_of(1, 2), expected=NO_STREAM)
        if not reopened:
            await _expect_two(home, journal)
    if reopened:
        async with opened(home) as journal:
            await _expect_two(home, journal)
    assert len(audit(home)) == 3


async def _expect_two(home: Home, journal) -> None:
    for wrong in (NO_STREAM, 0, 1, 3):
        with pytest.raises(ExpectationFailed):
            await journal.append("s", entries_of("x"), expected=wrong)
    assert await journal.append("s", entries_of(3), expected=2) == Position(2, 2)


async def test_a_caller_who_is_wrong_about_a_stream_does_not_mislead_the_next(home: Home) -> None:
    async with opened(home) as journal:
        await journal.append("s", entries_of(1, 2, 3))

    def refuse() -> None:
        raise GuardRefused("no")

    async with opened(home) as journal:
        with pytest.raises((GuardRefused, ExpectationFailed)):
            await journal.append("s", entries_of("x"), expected=NO_STREAM, guard=refuse)
        assert await journal.append("s", entries_of(4), expected=3) == Position(3, 3)


async def test_a_caller_who_is_wrong_about_a_stream_does_not_mislead_the_others_of_its_batch(home: Home) -> None:
    async with opened(home) as journal:
        await journal.append("s", entries_of(1, 2, 3))
    async with opened(home) as journal:
        wrong, right, guarded = await asyncio.gather(
            journal.append("s", entries_of("x"), expected=NO_STREAM),
            journal.append("s", entries_of(4), expected=3),
            journal.append("s", entries_of(5), expected=4),
            return_exceptions=True,
        )
    assert isinstance(wrong, ExpectationFailed)
    assert (right, guarded) == (Position(3, 3), Position(4, 4))
    audit(home)


async def test_a_guard_sees_the_entries_before_it_also_those_of_its_batch(home: Home) -> None:
    seen = Seen()

    def at_most_three() -> None:
        if len(seen.records) >= 3:
            raise GuardRefused(f"there are {len(seen.records)}")

    async with opened(home, seen) as journal:
        answers = await asyncio.gather(
            *(journal.append(f"s{n}", entries_of(n), guard=at_most_three) for n in range(10)), return_exceptions=True
        )
    assert [isinstance(answer, Position) for answer in answers] == [True] * 3 + [False] * 7
    assert all(isinstance(answer, GuardRefused) for answer in answers[3:])
    assert len(audit(home)) == 3


async def test_a_guard_never_sees_entries_that_are_refused_in_the_end(home: Home) -> None:
    """A caller of the same batch was believed at first, and turned out to be wrong."""
    async with opened(home) as journal:
        await journal.append("s", [said("old")])

    async with opened(home, seen := Seen()) as journal:

        def none_yet() -> None:
            if "token" in texts(seen.records):
                raise GuardRefused("there is one")

        wrong, right, late = await asyncio.gather(
            journal.append("s", [said("token")], expected=NO_STREAM, event_id="wrong"),
            journal.append("t", [said("token")], guard=none_yet),
            journal.append("u", [said("token")], guard=none_yet),
            return_exceptions=True,
        )
    assert isinstance(wrong, ExpectationFailed)
    assert right == Position(1, 0)
    assert isinstance(late, GuardRefused)
    assert len(audit(home)) == 2


@pytest.mark.parametrize("raised", [GuardRefused("no"), RuntimeError("a defect"), StopIteration("a defect"), StopAsyncIteration()])
async def test_whatever_a_guard_raises_reaches_its_caller_and_nobody_else(home: Home, raised: Exception) -> None:
    def refuse() -> None:
        raise raised

    async with opened(home) as journal:
        answers = await asyncio.gather(
            journal.append("a", entries_of(1)),
            journal.append("a", entries_of(2), guard=refuse),
            journal.append("a", entries_of(3)),
            return_exceptions=True,
        )
    assert answers[0] == Position(0, 0)
    assert type(answers[1]) is type(raised) or isinstance(answers[1].__cause__, type(raised))
    assert answers[2] == Position(1, 1)


class TestIdempotence:
    async def test_the_same_id_with_the_same_content_is_the_first_position(self, home: Home) -> None:
        async with opened(home) as journal:
            first = await journal.append("s", entries_of(1, 2), event_id="once")
            assert await journal.append("s", entries_of(1, 2), event_id="once") == first
        async with opened(home) as journal:
            assert await journal.append("s", entries_of(1, 2), event_id="once") == first
            assert await asyncio.gather(*(journal.append("s", entries_of(1, 2), event_id="once") for _ in range(3))) == [first] * 3
        assert len(audit(home)) == 2

    async def test_the_same_id_twice_in_one_batch_is_stored_once(self, home: Home) -> None:
        async with opened(home) as journal:
            one, other = await asyncio.gather(*(journal.append("s", entries_of(1, 2), event_id="once") for _ in range(2)))
        assert one == other == Position(0, 0)
        assert len(audit(home)) == 2

    @pytest.mark.parametrize("when", ["one batch", "later", "after reopening"])
    @pytest.mark.parametrize(
        ("stream", "entries"),
        [
            ("s", [said(2), said(3)]),
            ("s", [said(1), said(3)]),
            ("s", [said(1)]),
            ("s", [said(1), said(2), said(3)]),
            ("s", [HostStopped(instance="1", reason="1"), said(2)]),
            ("t", [said(1), said(2)]),
        ],
        ids=["first differs", "second differs", "fewer", "more", "another type", "another stream"],
    )
    async def test_the_same_id_with_other_content_is_a_conflict(self, home: Home, when: str, stream: str, entries) -> None:
        async with opened(home) as journal:
            if when == "one batch":
                first, second = await asyncio.gather(
                    journal.append("s", entries_of(1, 2), event_id="once"),
                    journal.append(stream, entries, event_id="once"),
                    return_exceptions=True,
                )
                assert first == Position(0, 0)
                assert isinstance(second, IdConflict)
            else:
                await journal.append("s", entries_of(1, 2), event_id="once")
            if when == "later":
                with pytest.raises(IdConflict):
                    await journal.append(stream, entries, event_id="once")
        if when == "after reopening":
            async with opened(home) as journal:
                with pytest.raises(IdConflict):
                    await journal.append(stream, entries, event_id="once")
        assert len(audit(home)) == 2

    async def test_appends_of_different_length_under_one_stored_id_are_judged_each_for_itself(self, home: Home) -> None:
        async with opened(home) as journal:
            first = await journal.append("s", entries_of(1, 2, 3), event_id="once")
            answers = await asyncio.gather(
                *(journal.append("s", entries_of(*some), event_id="once") for some in ((1, 2, 3), (1,), (1, 2, 3, 4))),
                return_exceptions=True,
            )
        assert answers[0] == first
        assert [type(answer) for answer in answers[1:]] == [IdConflict] * 2

    async def test_an_id_that_is_called_new_and_is_not_is_found_out(self, home: Home) -> None:
        async with opened(home) as journal:
            first = await journal.append("s", entries_of(1, 2), event_id="once")
            assert await journal.append("s", entries_of(1, 2), event_id=NewId("once")) == first
            with pytest.raises(IdConflict):
                await journal.append("t", entries_of(3), event_id=NewId("once"))
        assert len(audit(home)) == 2

    async def test_an_id_that_another_append_derived_is_a_conflict(self, home: Home) -> None:
        async with opened(home) as journal:
            await journal.append("s", entries_of(1, 2), event_id="once")
            derived = audit(home)[1].id
            with pytest.raises(IdConflict):
                await journal.append("s", entries_of("x"), event_id=derived)
            answers = await asyncio.gather(
                journal.append("s", entries_of(3), event_id="third"),
                journal.append("t", entries_of(4, 5), event_id="fourth"),
                journal.append("t", entries_of(6), event_id=_derived("fourth")),
                return_exceptions=True,
            )
        assert answers[:2] == [Position(2, 2), Position(3, 0)]
        assert isinstance(answers[2], IdConflict)
        assert len(audit(home)) == 5

    async def test_a_repetition_is_answered_before_expectation_and_guard_are_asked(self, home: Home) -> None:
        def refuse() -> None:
            raise GuardRefused("no")

        async with opened(home) as journal:
            first = await journal.append("s", entries_of(1), expected=NO_STREAM, event_id="once")
            assert await journal.append("s", entries_of(1), expected=NO_STREAM, guard=refuse, event_id="once") == first

    async def test_a_refused_append_does_not_use_its_id_up(self, home: Home) -> None:
        def refuse() -> None:
            raise GuardRefused("no")

        async with opened(home) as journal:
            refused, stored = await asyncio.gather(
                journal.append("s", entries_of(1), guard=refuse, event_id="once"),
                journal.append("s", entries_of(2), event_id="once"),
                return_exceptions=True,
            )
        assert isinstance(refused, GuardRefused)
        assert stored == Position(0, 0)


def _derived(event_id: str) -> str:
    from remediation.journal.encoding import derived_id

    return derived_id(event_id, 1)


@pytest.mark.parametrize(
    "frame",
    [
        {"event_id": ""},
        {"event_id": "\ud800"},
        {"event_id": "x" * 70_000},
        {"actor": "\ud800"},
        {"actor": "x" * 70_000},
        {"causation": ""},
        {"causation": "\udfff"},
        {"correlation": ""},
        {"correlation": "x\ud800"},
        {"stream": ""},
        {"stream": "\ud800"},
        {"stream": "s" * 513},
        {"entries": []},
        {"entries": [said("x" * 300_000)]},
        {"entries": [said("fine"), said("\ud800")]},
    ],
    ids=lambda frame: ascii(frame)[:50],
)
async def test_what_no_leaf_can_hold_is_refused_and_harms_nobody_else(home: Home, frame) -> None:
    """A caller's hostile frame must neither enter the log, where it would be unreadable for ever, nor fail its batch."""
    bad = {"stream": "s", "entries": entries_of("bad"), **frame}
    async with opened(home, seen := Seen()) as journal:
        before, refused, after = await asyncio.gather(
            journal.append("s", entries_of(1)), journal.append(**bad), journal.append("s", entries_of(2)), return_exceptions=True
        )
        assert (before, after) == (Position(0, 0), Position(1, 1))
        assert isinstance(refused, NotCanonical)
        assert seen.resets == 1
    async with opened(home, seen):
        assert texts(seen.records) == ["1", "2"]
    assert len(audit(home)) == 2


@pytest.mark.parametrize(
    "text",
    ["\0", "\x1b[2J", "\u202e", "\u2028", "😀" * 100, "\\\"'", "ü", "%_?", "/", "a/b\n", "\x7f", "\U0010ffff"],
    ids=lambda text: ascii(text)[:20],
)
async def test_any_other_text_may_stand_in_a_frame(home: Home, text: str) -> None:
    async with opened(home) as journal:
        await journal.append(text, entries_of(text), actor=text, causation=text, correlation=text, event_id=text)
        assert await journal.append(text, entries_of(text), expected=1) == Position(1, 1)
        assert await journal.append(text, entries_of(text), event_id=text) == Position(0, 0)
        (first, _) = [record async for record in journal.read(stream=text)]
    head = first.head
    assert [head.stream, head.actor, head.causation, head.correlation, head.id] == [text] * 5
    assert texts([first]) == [text]
    audit(home)


async def test_a_batch_is_one_commit_and_many_callers_share_it(home: Home) -> None:
    async with opened(home) as journal:
        await asyncio.gather(*(journal.append(f"s{n % 7}", entries_of(*range(n % 5 + 1)), expected=ANY) for n in range(1000)))
    assert len(audit(home)) == 3000


async def test_one_append_may_be_larger_than_a_batch(home: Home) -> None:
    async with opened(home) as journal:
        assert await journal.append("s", entries_of(*range(1500))) == Position(0, 0)
        assert await journal.append("s", entries_of(1)) == Position(1500, 1500)
    audit(home)


async def test_a_closed_journal_says_so_and_closing_twice_is_allowed(home: Home) -> None:
    async with opened(home) as journal:
        await journal.append("s", entries_of(1))
    await journal.close()
    for use in (journal.append("s", entries_of(1)), journal.refresh(), journal.durable(5), journal.head()):
        with pytest.raises(JournalUnavailable):
            await asyncio.wait_for(use, 5)
    with pytest.raises(JournalUnavailable):
        [record async for record in journal.read()]
    assert [record async for record in journal.follow()] == []


async def test_closing_finishes_what_is_queued(home: Home) -> None:
    async with opened(home) as journal:
        tasks = [asyncio.create_task(journal.append("s", entries_of(n))) for n in range(50)]
        await asyncio.sleep(0)
        await asyncio.gather(journal.close(), journal.close())
        assert [(await task).seq for task in tasks] == list(range(50))
    assert len(audit(home)) == head_size(home) == 50


async def test_cancelled_callers_neither_cancel_nor_split_a_commit(home: Home) -> None:
    async with opened(home, seen := Seen()) as journal:
        tasks = [asyncio.create_task(journal.append(f"s{n}", entries_of(n, n, n))) for n in range(60)]
        for step in range(12):
            await asyncio.sleep(0)
            for task in tasks[step::12]:
                task.cancel()
        done = await asyncio.gather(*tasks, return_exceptions=True)
        await journal.append("last", entries_of("last"))
    rows = audit(home)
    assert len(seen.records) == len(rows)
    streams = [row.stream for row in rows]
    for task, answer in enumerate(done):
        assert streams.count(f"s{task}") == (3 if isinstance(answer, Position) else streams.count(f"s{task}"))
        assert streams.count(f"s{task}") in (0, 3)


async def test_a_waiter_for_durability_is_told_when_the_entry_is_committed(home: Home) -> None:
    async with opened(home) as journal:
        waiting = asyncio.create_task(journal.durable(1))
        await journal.append("s", entries_of(1))
        assert not waiting.done()
        await journal.append("s", entries_of(2))
        await asyncio.wait_for(waiting, 5)
        await journal.durable(0)
        never = asyncio.create_task(journal.durable(2))
        await asyncio.sleep(0)
    with pytest.raises(JournalUnavailable):
        await asyncio.wait_for(never, 5)
