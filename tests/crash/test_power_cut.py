"""
The power fails after any call that made something durable, and all that was not asked for is gone (`tests.support.power`): the journal
opens, no acknowledged report is missing, no head is ahead of its log, nothing is done twice, and every incident ends.
"""

import shutil
from collections.abc import Iterator

import pytest
from tests.support import aftermath
from tests.support.ground import in_memory
from tests.support.killing import Killer
from tests.support.paths import ASKING, Detour, ends
from tests.support.power import PowerCuts
from tests.support.rounds import sample

from remediation.bootstrap import initialise

pytestmark = pytest.mark.crash
KINDS = ("asked-twice", "held-back", "panic", "unmatched")


@pytest.fixture(scope="module")
def killer() -> Iterator[Killer]:
    with Killer() as server:
        yield server


@pytest.fixture(scope="module")
def cuts() -> Iterator[PowerCuts]:
    with PowerCuts() as server:
        yield server


@pytest.mark.parametrize("kind", KINDS)
def test_when_the_power_fails_at_any_moment_the_next_host_finds_what_was_promised(
    cuts: PowerCuts, killer: Killer, kind: str
) -> None:
    with in_memory("power") as folder:
        base, out = folder / "base", folder / "out"
        detour = Detour(base, kind)
        killer.make(base, kind)
        initialise(detour.boot().settings)
        ran = cuts.run(base, kind, out)
        assert ran["status"] == 0
        points = ran["points"]
        assert len(points) > 10, "the host made nothing durable"
        for number in sample(range(len(points)), 14, f"power/{kind}"):
            call, acknowledged = points[number]
            shutil.rmtree(base)
            shutil.copytree(out / f"{number:04}", base)
            (base / "told").unlink(missing_ok=True)
            try:
                missing = [name for name in detour.subjects if name not in acknowledged]
                again = killer.run(base, kind, report=missing)
                assert not again["error"], again["error"]
                records = aftermath.records_of(detour.home)
                incidents = list(aftermath.folded(records).incidents.values())
                aftermath.everything_ended(incidents, [*acknowledged.values(), *again["acknowledged"].values()])
                aftermath.settled_once(records)
                aftermath.consent_was_used_once_and_for_its_plan(records, always_asked=kind in ASKING)
                detour.promises_were_kept(incidents)
                aftermath.the_journal_verifies(detour.home)
                assert all(incident.status.value in ends(kind, incident) for incident in incidents)
            except AssertionError as error:
                raise AssertionError(f"cut number {number} of {len(points)}, after {call}: {error}") from error
