"""The inbox: durable when `put` returns, read in order, its owner known by the kernel; what is no message is kept with the reason."""

import asyncio
import errno
import itertools
import json
import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.support import repository
from tests.support.appending import Writers
from tests.support.journals import audit, file_size_limit, home_settings

from remediation.bootstrap import RemediatorBootstrap, Reporter, open_reader
from remediation.errors import JournalUnavailable, NotCanonical
from remediation.journal.inbox import MESSAGE_CAP, Inbox, Message, Unreadable
from remediation.model.events import DegradationEvent
from remediation.settings import Home

NAME = "{:020d}-{:032x}.json"
GOOD = json.dumps({"v": 1, "kind": "report", "document": {}}).encode()


@pytest.fixture
def inbox(tmp_path: Path) -> Inbox:
    path = tmp_path / "inbox"
    path.mkdir()
    return Inbox(path)


@pytest.fixture(scope="module")
def writers() -> Iterator[Writers]:
    with Writers() as server:
        yield server


def read(inbox: Inbox) -> list[Message]:
    found = list(inbox.messages())
    assert all(isinstance(item, Message) for item in found), found
    return [item for item in found if isinstance(item, Message)]


def test_a_message_says_what_was_put_in_and_who_owns_it(inbox: Inbox) -> None:
    id_ = inbox.put("pause", {"reason": "ü\ud800\x00", "until": 5}, at=1_700_000_000_000)
    (message,) = read(inbox)
    assert (message.id, message.kind, message.document) == (id_, "pause", {"reason": "ü\ud800\x00", "until": 5})
    assert message.actor == f"uid:{os.geteuid()}"
    assert inbox.pending()
    inbox.done(message)
    inbox.done(message)
    assert not inbox.pending()
    assert read(inbox) == []


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(st.characters()), inner, max_size=3),
    max_leaves=10,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(kind=st.text(st.characters()), document=st.dictionaries(st.text(st.characters()), json_values, max_size=4))
def test_any_document_is_read_back_equal(inbox: Inbox, kind: str, document: dict[str, object]) -> None:
    inbox.put(kind, document, at=5)
    (message,) = read(inbox)
    assert (message.kind, message.document) == (kind, document)
    inbox.done(message)


@pytest.mark.parametrize("document", [{"a": object()}, {"a": float("nan")}, {"a": float("inf")}, {"a": b"x"}, {"a": {1, 2}}])
def test_what_is_no_json_is_refused_at_once(inbox: Inbox, document: dict[str, object]) -> None:
    with pytest.raises(NotCanonical):
        inbox.put("report", document, at=5)
    assert list(inbox.path.iterdir()) == []


def test_messages_are_read_in_the_order_of_their_times(inbox: Inbox) -> None:
    ids = {at: inbox.put("k", {"at": at}, at=at) for at in (5, 3, 10**12, 4, 0, 99)}
    assert [message.id for message in read(inbox)] == [ids[at] for at in sorted(ids)]


def test_what_one_process_puts_in_within_a_millisecond_keeps_its_order(inbox: Inbox) -> None:
    ids = [inbox.put("k", {}, at=1_700_000_000_000) for _ in range(200)]
    assert [message.id for message in read(inbox)] == ids


@pytest.mark.parametrize("at", [-1, -(10**9), 10**30, 2**63])
def test_a_message_of_an_impossible_time_is_not_lost(inbox: Inbox, at: int) -> None:
    id_ = inbox.put("k", {}, at=at)
    assert [message.id for message in read(inbox)] == [id_]


def test_a_long_queue_is_read_in_parts(inbox: Inbox) -> None:
    ids = [inbox.put("k", {}, at=at) for at in range(300)]
    first = [item for item in inbox.messages(limit=256) if isinstance(item, Message)]
    assert [message.id for message in first] == ids[:256]
    for message in first:
        inbox.done(message)
    assert [message.id for message in read(inbox)] == ids[256:]


def test_a_message_that_is_too_large_is_refused_at_once(inbox: Inbox) -> None:
    with pytest.raises(JournalUnavailable, match="too large"):
        inbox.put("report", {"text": "x" * MESSAGE_CAP}, at=5)
    assert not inbox.pending()


def test_an_inbox_that_is_not_there_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    missing = Inbox(tmp_path / "missing")
    assert list(missing.messages()) == []
    assert not missing.pending()
    with pytest.raises(JournalUnavailable, match="remediation init"):
        missing.put("report", {}, at=5)


def test_a_disk_that_is_full_refuses_the_message_and_leaves_no_half_of_it(inbox: Inbox) -> None:
    """A write may be cut short without an error, so that half a message would be acknowledged."""
    with file_size_limit(200), pytest.raises(JournalUnavailable, match=os.strerror(errno.EFBIG)):
        inbox.put("report", {"text": "x" * 1000}, at=5)
    assert list(inbox.path.iterdir()) == []


def test_many_threads_and_processes_write_at_once(inbox: Inbox) -> None:
    script = (
        "import sys; from pathlib import Path; from remediation.journal.inbox import Inbox\n"
        "for n in range(50): print(Inbox(Path(sys.argv[1])).put('k', {'n': n}, at=n))"
    )
    processes = [subprocess.Popen([sys.executable, "-c", script, inbox.path], stdout=subprocess.PIPE, text=True) for _ in range(3)]
    ids: list[str] = []

    def work() -> None:
        for number in range(50):
            ids.append(inbox.put("k", {"n": number}, at=number))

    threads = [threading.Thread(target=work) for _ in range(4)]
    taken: list[str] = []
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads) or any(process.poll() is None for process in processes) or inbox.pending():
        for message in read(inbox):
            taken.append(message.id)
            inbox.done(message)
    for process in processes:
        ids += process.communicate()[0].split()
    assert len(ids) == 350
    assert sorted(taken) == sorted(ids)


@pytest.mark.crash
def test_a_kill_between_any_two_steps_leaves_a_whole_message_or_none(inbox: Inbox, writers: Writers, tmp_path: Path) -> None:
    for stop in itertools.count():
        out = tmp_path / f"out-{stop}"
        status = writers.start("put", path=str(inbox.path), out=str(out), stop=stop).wait()
        said = out.read_text().split() if out.exists() else []
        found = read(inbox)
        assert [message.document for message in found] in ([], [{"text": "x" * 5000}])
        assert [message.id for message in found] == said or not said
        for message in found:
            inbox.done(message)
        if status == 0:
            break
    assert said
    assert stop >= 5


def place(inbox: Inbox, content: bytes, *, at: int = 7) -> Path:
    path = inbox.path / NAME.format(at, at)
    path.write_bytes(content)
    return path


def deep() -> bytes:
    return b'{"v":1,"kind":"report","document":{"a":' + b"[" * 200_000 + b"]" * 200_000 + b"}}"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        pytest.param(b"", "no message", id="empty"),
        pytest.param(GOOD[:-5], "no message", id="cut off"),
        pytest.param(b"\xff\xfe\xfd", "no message", id="no text"),
        pytest.param(GOOD.decode().encode("utf-16"), "no message", id="UTF-16"),
        pytest.param(b"[]", "no message", id="a list"),
        pytest.param(b"null", "no message", id="null"),
        pytest.param(b'"text"', "no message", id="a text"),
        pytest.param(b"{}", "no message", id="no members"),
        pytest.param(b'{"v":2,"kind":"report","document":{}}', "version 1", id="another version"),
        pytest.param(b'{"v":true,"kind":"report","document":{}}', "version 1", id="a version that is none"),
        pytest.param(b'{"v":1,"kind":5,"document":{}}', "version 1", id="a kind that is none"),
        pytest.param(b'{"v":1,"kind":"report","document":[]}', "version 1", id="a document that is none"),
        pytest.param(b'{"v":1,"kind":"pause","document":{"until":Infinity}}', "no message", id="infinity"),
        pytest.param(b'{"v":1,"kind":"pause","document":{"until":NaN}}', "no message", id="NaN"),
        pytest.param(b'{"v":1,"kind":"pause","document":{"until":1e999}}', "no message", id="a number that overflows"),
        pytest.param(b'{"v":1,"kind":"pause","document":{"until":' + b"9" * 5000 + b"}}", "no message", id="5,000 digits"),
        pytest.param(deep(), "no message", id="200,000 levels"),
        pytest.param(GOOD + b" " * 10_000_000, "larger than", id="10 MB"),
    ],
)
def test_a_file_that_is_no_message_is_put_aside_with_the_reason(inbox: Inbox, content: bytes, reason: str) -> None:
    path = place(inbox, content)
    later = inbox.put("k", {}, at=9)
    refused, good = inbox.messages()
    assert isinstance(refused, Unreadable)
    assert reason in refused.reason
    assert isinstance(good, Message)
    inbox.reject(refused.path, refused.reason)
    assert [message.id for message in read(inbox)] == [later]
    aside = inbox.path / "rejected" / path.name
    assert aside.read_bytes() == content
    assert reason in aside.with_name(f"{path.name}.reason").read_text()


def _fifo(path: Path) -> None:
    os.mkfifo(path)


def _socket(path: Path) -> None:
    here = os.getcwd()
    os.chdir(path.parent)
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(path.name)
    finally:
        os.chdir(here)


def _folder(path: Path) -> None:
    path.mkdir()
    (path / "inside").write_text("x")


def _link(path: Path) -> None:
    target = path.parent.parent / "target"
    target.write_bytes(GOOD)
    path.symlink_to(target)


def _dangling(path: Path) -> None:
    path.symlink_to("/nowhere/at/all")


def _hard_link(path: Path) -> None:
    target = path.parent.parent / "target"
    target.write_bytes(GOOD)
    path.hardlink_to(target)


@pytest.mark.parametrize("make", [_fifo, _socket, _folder, _link, _dangling, _hard_link])
def test_what_is_no_file_of_its_own_is_never_followed_nor_waited_for(inbox: Inbox, make) -> None:
    """A link would lend the message the owner of somebody else's file."""
    path = inbox.path / NAME.format(7, 7)
    make(path)
    for _ in range(2):
        (refused,) = inbox.messages()
        assert isinstance(refused, Unreadable)
    inbox.reject(refused.path, refused.reason)
    assert read(inbox) == []
    assert os.path.lexists(inbox.path / "rejected" / path.name)


@pytest.mark.parametrize("make", [_folder, _link, _fifo])
def test_rejecting_the_same_name_again_keeps_both(inbox: Inbox, make) -> None:
    path = inbox.path / NAME.format(7, 7)
    for _ in range(3):
        make(path)
        if path.parent.parent.joinpath("target").exists():
            path.parent.parent.joinpath("target").unlink()
        (refused,) = inbox.messages()
        assert isinstance(refused, Unreadable)
        inbox.reject(refused.path, refused.reason)
    kept = [entry.name for entry in (inbox.path / "rejected").iterdir() if not entry.name.endswith(".reason")]
    assert len(kept) == 3


def test_a_reason_is_shown_without_what_steers_a_terminal(inbox: Inbox) -> None:
    path = place(inbox, b"")
    inbox.reject(path, "bad\x1b[2J\u202e\nline\ud800")
    assert (inbox.path / "rejected" / f"{path.name}.reason").read_text().strip().isprintable()


def test_files_of_other_names_are_left_alone(inbox: Inbox) -> None:
    names = ["note.txt", f".{NAME.format(1, 1)}.99", NAME.format(1, 1).upper(), NAME.format(1, 1) + "\n", "x" + NAME.format(1, 1)]
    for name in names:
        (inbox.path / name).write_bytes(GOOD)
    assert read(inbox) == []
    assert sorted(entry.name for entry in inbox.path.iterdir()) == sorted(names)


def test_a_lack_of_descriptors_is_no_fault_of_the_message(inbox: Inbox) -> None:
    """A host that has too many files open must not put good reports aside."""
    import resource

    inbox.put("report", {}, at=5)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken = [os.open("/dev/null", os.O_RDONLY) for _ in range(3)]
    resource.setrlimit(resource.RLIMIT_NOFILE, (taken[-1] + 1, hard))
    try:
        os.close(taken.pop())
        with pytest.raises(JournalUnavailable):
            for _ in range(2):
                taken.append(os.open("/dev/null", os.O_RDONLY))
                list(inbox.messages())
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for descriptor in taken:
            os.close(descriptor)
    assert len(read(inbox)) == 1


def test_a_message_of_root_can_be_read_by_the_host_s_user(inbox: Inbox) -> None:
    """Whether it may be reached is for the folders above to say."""
    before = os.umask(0o077)
    try:
        inbox.put("report", {}, at=5)
    finally:
        os.umask(before)
    (path,) = inbox.path.iterdir()
    assert path.stat().st_mode & 0o777 == 0o644


class TestHost:
    """What a running host does with it."""

    @pytest.fixture
    def home(self, tmp_path: Path) -> Home:
        home = home_settings(tmp_path).home
        home.make()
        return home

    async def take_in(self, folder: Path) -> None:
        async with RemediatorBootstrap(home_settings(folder)).start(watch=False) as host:
            await asyncio.wait_for(host.settle(), 20)

    async def test_the_owner_of_the_file_is_the_actor_of_the_entry(self, tmp_path: Path, home: Home) -> None:
        id_ = Reporter(home).report(DegradationEvent(code="C", subsystem="s", subject="x"))
        await self.take_in(tmp_path)
        async with open_reader(home) as reader:
            (reported,) = [record async for record in reader.read(types=["degradation.reported"])]
        assert (reported.head.id, reported.head.actor) == (id_, f"uid:{os.geteuid()}")
        audit(home)

    async def test_no_message_whatever_deafens_the_host_or_gets_lost(self, tmp_path: Path, home: Home) -> None:
        inbox = Inbox(home.inbox)
        bad = [
            {"kind": "report", "document": {}},
            {"kind": "report", "document": {"code": "C", "subsystem": "s", "subject": "x", "extra": 1}},
            {"kind": "report", "document": {"code": "\ud800", "subsystem": "s", "subject": "x"}},
            {"kind": "pause", "document": {"until": 2**60}},
            {"kind": "pause", "document": {"until": "soon"}},
            {"kind": "pause", "document": {"until": 1e308}},
            {"kind": "pause", "document": {"until": [1]}},
            {"kind": "close", "document": {}},
            {"kind": "close", "document": {"incident": {"a": 1}}},
            {"kind": "reopen", "document": {"incident": "x" * 100_000}},
            {"kind": "explode" * 10_000, "document": {}},
            {"kind": "\x1b[2J", "document": {"\ud800": "\ud800"}},
            {"kind": "", "document": {}},
        ]
        for number, message in enumerate(bad):
            place(inbox, json.dumps({"v": 1, **message}).encode(), at=number)
        _folder(inbox.path / NAME.format(50, 50))
        last = Reporter(home).report(DegradationEvent(code="C", subsystem="s", subject="x"))
        await self.take_in(tmp_path)
        async with open_reader(home) as reader:
            assert last in [record.head.id async for record in reader.read()]
        assert not inbox.pending()
        kept = {entry.name for entry in (home.inbox / "rejected").iterdir()}
        assert len([name for name in kept if not name.endswith(".reason")]) == len(bad) + 1
        assert all(f"{name}.reason" in kept for name in kept if not name.endswith(".reason"))

    async def test_a_message_that_was_journaled_before_a_crash_is_journaled_once(self, tmp_path: Path, home: Home) -> None:
        """The host appended it, and was killed before it could remove the file."""
        inbox = Inbox(home.inbox)
        Reporter(home).report(DegradationEvent(code="C", subsystem="s", subject="x"))
        inbox.put("pause", {"reason": "r"}, at=10**13)
        files = {path.name: path.read_bytes() for path in inbox.path.iterdir()}
        await self.take_in(tmp_path)
        assert not inbox.pending()
        for name, content in files.items():
            (inbox.path / name).write_bytes(content)
        await self.take_in(tmp_path)
        assert not inbox.pending()
        assert not (inbox.path / "rejected").exists()
        types = [row.type for row in audit(home)]
        assert types.count("degradation.reported") == types.count("pause.started") == 1


def test_the_page_about_the_inbox_says_what_is_so(inbox: Inbox) -> None:
    page = (repository.ROOT / "docs" / "specs" / "inbox.md").read_text()
    assert f"{MESSAGE_CAP:,} bytes" in page
    example = re.search(r"```json\n(.*?)```", page, re.DOTALL)
    assert example
    path = place(inbox, example[1].encode())
    (message,) = read(inbox)
    assert (message.kind, message.id) == ("report", path.name[21:53])
    DegradationEvent.model_validate(message.document)
    kinds = set(
        re.findall(r"`(\w+)`", " ".join(re.findall(r"^\| (`\w+`(?:, `\w+`)*) \|", page.split("## Who said it")[0], re.MULTILINE)))
    )
    source = (repository.ROOT / "src" / "remediation" / "engine" / "requests.py").read_text()
    handled = set(re.findall(r'"(\w+)": self\._\w+,', source))
    assert kinds == handled


def test_a_message_written_by_the_page_s_own_steps_is_a_message(inbox: Inbox) -> None:
    unfinished = inbox.path / ".unfinished"
    unfinished.write_bytes(b'{"v": 1, "kind": "resume", "document": {}}')
    assert read(inbox) == []
    unfinished.rename(inbox.path / f"{1_700_000_000_000 * 1_000_000:020d}-{'ab' * 16}.json")
    ours = inbox.put("k", {}, at=1_700_000_000_001)
    assert [message.id for message in read(inbox)] == ["ab" * 16, ours]
