"""Appends, erasures, archives, restorations and reopenings in any order: the journal always verifies, and the state counts as if nothing had left."""

import asyncio
import itertools
import shutil
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, event, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from tests.support import stories
from tests.support.journals import make_home, said

from remediation.bootstrap import open_journal
from remediation.bootstrap.archiving import Archiver, ArchiveRefused
from remediation.bootstrap.bringing_back import bring_back
from remediation.bootstrap.erasing import Eraser, ErasureRefused
from remediation.core.incident import id_of
from remediation.core.standing import Standing
from remediation.core.state import HostState
from remediation.journal import IntentJournal
from remediation.stores.auditing import verify_journal
from remediation.testing import FakeClock

DAY = 86_400.0
SECRET = "Hildegard-Mustermann"


class Whole:
    """The state as it would be if nothing had ever been erased or archived: a fold that is never reset."""

    def __init__(self) -> None:
        self.state = HostState(keep_settled=None)

    def apply(self, record: Any) -> None:
        if record.seq > self.state.position:
            self.state.apply(record)

    def reset(self) -> None:
        """The journal is read again; what was seen is known."""

    def loaded(self) -> None:
        pass


class RetentionMachine(RuleBasedStateMachine):
    @initialize()
    def begin(self) -> None:
        self.runner = asyncio.Runner()
        self.folder = Path(tempfile.mkdtemp(prefix="retention-"))
        self.home = make_home(self.folder)
        self.clock = FakeClock()
        self.numbers = itertools.count()
        self.whole = Whole()
        self.archives: list[Path] = []
        self.live: list[str] = []
        """Incidents that are open."""
        self.over: list[str] = []
        self.run(self.open())
        self.talk(300)

    def run(self, work: Any) -> Any:
        return self.runner.run(work)

    async def open(self) -> None:
        self.state, self.standing = HostState(), Standing()
        self.journal: IntentJournal = await open_journal(self.home, self.clock, state=self.state, folds=[self.standing, self.whole])

    def eraser(self) -> Eraser:
        return Eraser(self.home, self.journal, self.standing, self.clock, host="atlas", cooldown_ms=0)

    async def story(self, stream: str, entries: list[Any], event_id: str | None = None) -> None:
        await self.journal.append(stream, entries, correlation=id_of(stream), event_id=event_id)

    @rule(amount=st.integers(100, 400))
    def talk(self, amount: int) -> None:
        async def work() -> None:
            await asyncio.gather(*(self.journal.append("talk", [said(next(self.numbers))]) for _ in range(amount)))

        self.run(work())

    @rule(settle=st.booleans(), failed=st.booleans())
    def incident(self, settle: bool, failed: bool) -> None:
        stream = stories.stream(f"{next(self.numbers):08x}")
        entries = [stories.reported(summary=SECRET), stories.opened("stale-lock-file"), stories.planned()]
        if settle:
            entries += [stories.finished("failed" if failed else "healed", reason=SECRET), stories.settled(analysis=SECRET)]
        (self.over if settle else self.live).append(id_of(stream))
        self.run(self.story(stream, entries))

    @precondition(lambda self: self.live)
    @rule()
    def settle(self) -> None:
        id_ = self.live.pop(0)
        self.over.append(id_)
        fingerprint, _, rest = id_.partition("-")
        self.run(self.story(f"incident/{fingerprint}/{rest}", [stories.finished(), stories.settled()]))

    @rule(days=st.sampled_from([0.2, 1.1, 8.0]))
    def wait(self, days: float) -> None:
        self.clock.advance(days * DAY)

    @precondition(lambda self: self.over)
    @rule(data=st.data(), patient=st.booleans())
    def erase(self, data: st.DataObject, patient: bool) -> None:
        self.clock.advance(8 * DAY if patient else 0)
        id_ = data.draw(st.sampled_from(self.over))
        try:
            self.run(self.eraser().erase_incident(id_, reason="asked for"))
        except ErasureRefused as refused:
            said_why = str(refused)
        else:
            event("erased")
            return
        assert "allowed from" in said_why or "no such incident" in said_why

    @rule(share=st.integers(2, 4), patient=st.booleans())
    def archive(self, share: int, patient: bool) -> None:
        while patient and self.live:
            self.settle()
        self.clock.advance(8 * DAY if patient else 0)
        archiver = Archiver(self.home, self.journal, self.standing, self.clock, host="atlas", cooldown_ms=0)
        try:
            done = self.run(archiver.archive(self.journal.size * share // 4, self.folder / "out"))
        except ArchiveRefused:
            return
        assert done.before % 256 == 0
        event("archived")
        self.archives.append(done.path)

    @precondition(lambda self: self.archives)
    @rule()
    def restore(self) -> None:
        self.run(bring_back(self.home, self.journal, self.archives))
        self.archives = []
        event("restored")
        self.reopen(False)

    @rule(forget=st.booleans())
    def reopen(self, forget: bool) -> None:
        self.run(self.journal.close())
        if forget:
            (self.home.root / "snapshot.bin").unlink(missing_ok=True)
        self.run(self.open())

    @invariant()
    def it_verifies_and_counts(self) -> None:
        if not hasattr(self, "runner"):
            return
        known = self.run(self.journal.publish())
        vkeys = self.home.verifier_keys.read_text().split()
        live = verify_journal(self.home.journal, own=vkeys, known_head=known)
        assert live.ok, live.problems
        assert (live.archived > 0) == bool(self.archives)
        whole = verify_journal(self.home.journal, own=vkeys, known_head=known, archives=self.archives)
        assert whole.ok, whole.problems
        assert (whole.root, whole.archived) == (live.root, 0)
        kept = self.whole.state
        assert self.state.runbooks == kept.runbooks
        assert set(self.state.by_fingerprint.values()) == set(kept.by_fingerprint.values())
        for id_ in self.live:
            assert self.state.incidents[id_].attempts == kept.incidents[id_].attempts

    def teardown(self) -> None:
        if not hasattr(self, "runner"):
            return
        try:
            self.run(self.journal.close())
        finally:
            self.runner.close()
            shutil.rmtree(self.folder)


TestRetention = RetentionMachine.TestCase
TestRetention.settings = settings(max_examples=12, stateful_step_count=18, deadline=None, suppress_health_check=list(HealthCheck))
