"""The reference is complete: what the code offers stands in it, and what stands in it is what the code says."""

import inspect
import re
from enum import StrEnum
from pathlib import Path
from typing import Any

import pytest
from tests.support.examples import blocks
from tests.support.repository import ROOT

import remediation
from remediation import authoring, bootstrap, errors, proof, testing
from remediation.core.incident import Attempt, Incident, Status
from remediation.effects import BUILTIN_KINDS
from remediation.hooks import Specification
from remediation.model.events import DegradationEvent
from remediation.ports.channel import Notice
from remediation.ports.effect import EffectContext
from remediation.ports.world import Completed

REFERENCE = ROOT / "docs" / "reference"
AUTHORING = (REFERENCE / "authoring.md").read_text()
API = (REFERENCE / "python-api.md").read_text()
HOOKS = (REFERENCE / "hooks.md").read_text()


def code(page: str) -> set[str]:
    """Every word in the code spans and headings of a page."""
    prose = re.sub(r"^```.*?^```", "", page, flags=re.MULTILINE | re.DOTALL)
    spans = [*re.findall(r"`([^`]+)`", prose), *re.findall(r"^#+ (.*)$", prose, re.MULTILINE)]
    return {word for span in spans for word in re.findall(r"[A-Za-z_]\w*", span)}


def section(page: str, title: str) -> str:
    found = re.search(rf"^(#+) {re.escape(title)}$(.*?)(?=^#{{1,3}} |\Z)", page, re.MULTILINE | re.DOTALL)
    assert found, f"there is no section {title!r}"
    return found[2]


def public(kind: type) -> list[str]:
    return [name for name, _ in inspect.getmembers(kind) if not name.startswith("_") and name in vars(kind)]


HOOK_NAMES = [name for name in vars(Specification) if name.startswith("remediation_")]


@pytest.mark.parametrize("hook", HOOK_NAMES)
def test_each_hook_has_a_section_that_says_what_it_returns_and_an_example(hook: str) -> None:
    assert section(HOOKS, hook).strip().startswith("Returns ")
    examples = [block.text for block in blocks("hooks.md", HOOKS) if block.language == "python"]
    assert any(f"def {hook}(" in text for text in examples)


def test_the_page_of_hooks_names_no_hook_that_does_not_exist() -> None:
    assert {name for name in re.findall(r"\bremediation_\w+", HOOKS) if not name.endswith("_")} == set(HOOK_NAMES)


@pytest.mark.parametrize("name", authoring.__all__)
def test_each_name_of_the_authoring_surface_is_explained(name: str) -> None:
    assert name in code(AUTHORING)


@pytest.mark.parametrize("name", authoring.RunbookSpec.model_fields)
def test_each_field_of_a_spec_is_in_its_table_with_its_default(name: str) -> None:
    row = re.search(rf"^\| `{name}` \|([^|]*)\|", section(AUTHORING, "RunbookSpec"), re.MULTILINE)
    assert row, "there is no row"
    field = authoring.RunbookSpec.model_fields[name]
    shown = row[1].strip("` ")
    if field.is_required():
        assert shown == ""
        return
    given = eval(shown, {"Timeouts": authoring.Timeouts}) if not isinstance(field.default, StrEnum) else shown
    required = {"id": "x", "handles": [{"code": "A"}], "blast_radius": "process", "reversibility": "reversible", "level": "heal"}
    assert getattr(authoring.RunbookSpec(**required, **{name: given}), name) == field.default


@pytest.mark.parametrize("name", public(authoring.RemediationContext))
def test_each_member_of_the_context_is_in_its_table(name: str) -> None:
    assert name in code(section(AUTHORING, "RemediationContext"))


MODELS: dict[str, list[type[Any]]] = {
    "RemediationContext": [authoring.IncidentView, authoring.PriorAttempt, authoring.Receipt, Completed, authoring.BlobRef],
    "DegradationEvent": [DegradationEvent],
    "Effects": list(BUILTIN_KINDS),
    "Your own kind": [authoring.Touches],
    "What steps return": [authoring.Bounds, authoring.Escalation],
    "Channels": [Notice],
}


@pytest.mark.parametrize(("title", "model"), [(title, model) for title, models in MODELS.items() for model in models])
def test_each_field_of_a_value_is_named_in_its_section(title: str, model: type[Any]) -> None:
    assert set(model.model_fields) <= code(section(AUTHORING, title))


def test_what_effects_and_sentinels_implement_and_are_given_is_named() -> None:
    own = code(section(AUTHORING, "Your own kind"))
    assert {name for name in public(authoring.Effect) if not name.endswith("_type")} - {"record", "model_config"} <= own
    assert {*EffectContext.__annotations__, *public(EffectContext)} <= own
    sentinels = code(section(AUTHORING, "Sentinels"))
    assert set(public(authoring.Sentinel)) - {"options_type"} <= sentinels
    assert {*authoring.Watch.__annotations__, *public(authoring.Watch)} <= sentinels


@pytest.mark.parametrize(
    "enumeration", [authoring.Radius, authoring.Reversibility, authoring.Level, authoring.Tier, authoring.Probe]
)
def test_the_values_of_enumerations_are_listed(enumeration: type[StrEnum]) -> None:
    assert {str(member) for member in enumeration} <= code(AUTHORING)


@pytest.mark.parametrize("name", remediation.__all__)
def test_each_name_of_the_package_is_explained(name: str) -> None:
    assert name in code(section(API, "remediation"))
    assert getattr(remediation, name) is not None


@pytest.mark.parametrize(
    "kind", [remediation.Host, remediation.RemediatorBootstrap, remediation.Reporter], ids=lambda kind: kind.__name__
)
def test_each_member_of_what_programs_use_is_in_its_section(kind: type) -> None:
    assert set(public(kind)) <= code(section(API, kind.__name__))
    for name in public(kind):
        if inspect.isfunction(vars(kind)[name]):
            for parameter in list(inspect.signature(vars(kind)[name]).parameters)[1:]:
                assert parameter.rstrip("_") in code(API), f"{kind.__name__}.{name}({parameter})"


def test_what_the_page_says_of_an_incident_is_there() -> None:
    members = {*Incident.__dataclass_fields__, *Attempt.__dataclass_fields__, *public(Incident), *public(Attempt), *Status}
    named = code(section(API, "Incident"))
    assert named <= {str(member) for member in members}
    assert {"id", "status", "event", "reason", "attempts", "held", "dirty"} <= named


@pytest.mark.parametrize("name", [*bootstrap.__all__, *testing.__all__])
def test_each_name_of_the_other_packages_for_programs_is_explained(name: str) -> None:
    assert name in code(API)


def test_names_of_the_proofs_that_the_page_uses_exist() -> None:
    for name in ("verify_export", "verify_export_file"):
        assert name in code(API)
        assert name in proof.__all__


@pytest.mark.parametrize("name", [name for name, kind in vars(errors).items() if inspect.isclass(kind)])
def test_each_exception_is_in_the_table_with_its_parent(name: str) -> None:
    table = section(API, "Exceptions")
    assert f"`{name}`" in table
    parent = getattr(errors, name).__base__.__name__
    for line in table.splitlines():
        if line.startswith(f"| `{name}` |") and parent not in ("RemediationError", "JournalError", "Exception"):
            assert f"`{parent}`" in line


def test_the_how_to_shows_the_example_as_it_is() -> None:
    page = ROOT / "docs" / "howto" / "write-a-runbook.md"
    (shown,) = [block.text for block in blocks(page.name, page.read_text()) if block.file == "src/stale_lock.py"]
    assert shown == (ROOT / "examples" / "stale-lock-plugin" / "src" / "stale_lock.py").read_text()


def test_the_how_to_shows_the_lines_that_the_acceptance_test_runs() -> None:
    service = (ROOT / "tests" / "acceptance" / "test_embedding.py").read_text()
    lines = re.search(r"# >>>\n(.*?)    # <<<", service, re.DOTALL)
    assert lines
    assert lines[1].strip() in (ROOT / "docs" / "howto" / "embed-in-a-host.md").read_text()


@pytest.mark.parametrize("page", [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))], ids=lambda page: page.name)
def test_an_example_that_is_in_no_test_says_why(page: Path) -> None:
    for block in blocks(page.name, page.read_text()):
        if block.mark.startswith("no-test:"):
            assert len(block.mark.removeprefix("no-test:").split()) >= 3
