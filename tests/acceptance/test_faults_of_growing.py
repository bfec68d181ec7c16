"""
What self-healing hosts get wrong, continued (see `test_faults_of_the_field`): growth, and declarations that nobody demands.

Not proven here: that a gate refuses runbooks without an approved proposal. There is no such gate yet; what exists, the refusal of a
runbook that leaves out what it has to declare, is.
"""

import dataclasses
from pathlib import Path
from typing import Any

import pydantic
import pytest
from tests.support.folding import Ledger, event
from tests.support.hosts import broken, runbook
from tests.support.journals import said

from remediation.authoring import (
    Handles,
    RunbookSpec,
)
from remediation.bootstrap import RemediatorBootstrap
from remediation.errors import RegistrationError
from remediation.runbook import Runbook
from remediation.testing import plugin, running_host, settings_in


def sizes(value: Any, name: str = "state") -> dict[str, int]:
    """The lengths of all containers inside."""
    found = {}
    if isinstance(value, dict | list | set | frozenset | tuple | bytearray):
        found[name] = len(value)
        inner = list(value.values()) if isinstance(value, dict) else []
        if len(inner) < 50:
            found |= {key: size for n, item in enumerate(inner) for key, size in sizes(item, f"{name}[{n}]").items()}
    elif dataclasses.is_dataclass(value):
        found |= {
            key: size
            for field in dataclasses.fields(value)
            for key, size in sizes(getattr(value, field.name), f"{name}.{field.name}").items()
        }
    return found


def test_twenty_thousand_settled_incidents_leave_a_state_of_bounded_size() -> None:
    keep = 500
    ledger = Ledger(keep_settled=keep)
    for number in range(20_000):
        ledger.now += 20_000
        if number % 2:
            ledger.healed(f"subject-{number}")
        else:
            ledger.settle(ledger.report(event(f"subject-{number}", observed_at=ledger.now)), "escalated", held=False)
        ledger.records.clear()
    state = ledger.state
    measured = {key: size for name, value in vars(state).items() for key, size in sizes(value, name).items()}
    bloom = measured.pop("forgotten")
    assert bloom == 1 << 20
    assert measured["incidents"] == keep
    # The longest are what is known of past heals, and the changes of the last day, at one in 40 seconds; the older ones go 1,024 at a time.
    assert max(measured.values()) <= max(8 * keep, 86_400 // 40 + 1_025), measured


async def test_an_append_reads_nothing_again_however_long_the_journal_is(tmp_path: Path) -> None:
    async with running_host(tmp_path, runbook(), limits={"changes_per_hour": 1000, "runbook_changes": 1000}) as host:
        store = host.journal._store
        real, read = store._query, 0

        async def counting(*arguments: Any) -> list[Any]:
            nonlocal read
            rows = await real(*arguments)
            read += len(rows)
            return rows

        store._query = counting

        async def heals(name: str) -> int:
            nonlocal read
            read = 0
            for number in range(10):
                incident = await host.wait_for(await host.report(broken(tmp_path, f"{name}-{number}")), timeout=10)
                assert incident.status == "resolved"
            return read

        few = await heals("few")
        for start in range(0, 5_000, 500):
            await host.journal.append("host/pauses", [said(start + number) for number in range(500)])
        many = await heals("many")
        assert many <= few + 20, f"10 heals read {few} rows of a short journal, and {many} of a long one"


# -- declarations --------------------------------------------------------------------------------------------------------------------------

DECLARED = {
    "id": "mend",
    "handles": (Handles(code="BROKEN"),),
    "blast_radius": "process",
    "reversibility": "reversible",
    "level": "patch",
}


@pytest.mark.parametrize("left_out", sorted(DECLARED))
def test_a_runbook_that_leaves_out_what_it_must_declare_does_not_exist(left_out: str) -> None:
    with pytest.raises(pydantic.ValidationError, match=left_out):
        RunbookSpec(**{name: value for name, value in DECLARED.items() if name != left_out})


def test_a_declaration_that_is_misspelt_is_refused() -> None:
    with pytest.raises(pydantic.ValidationError, match="reversable"):
        RunbookSpec(**DECLARED, reversable="reversible")


async def test_a_host_with_a_runbook_that_declares_nothing_does_not_start(tmp_path: Path) -> None:
    class Bare(Runbook):
        pass

    boot = RemediatorBootstrap(settings_in(tmp_path), plugins=[plugin(Bare)])
    with pytest.raises(RegistrationError, match="no spec"):
        async with boot.start():
            pass
