"""The example plugin, built and installed as anybody would: found, obeyed, and stopped where it must be."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.support.installed import EXAMPLE, User, gone_pid, install, snapshot
from tests.support.repository import ROOT

SETTINGS = """\
[host]
id = "atlas-1"
plugins = {plugins}

[gate]
profile = "{profile}"

[effects]
roots = ["app"]

[runbooks."stale-lock-file"]
state = "{state}"

[runbooks."doubter"]
state = "live"
"""

DOUBTER = '''\
"""A runbook that is never content with what it did."""
from remediation.authoring import DeleteFile, Finding, Handles, MoveFile, Plan, Runbook, RunbookSpec, Verdict, WriteFile, hookimpl


class Doubter(Runbook):
    spec = RunbookSpec(
        id="doubter", handles=(Handles(code="DOUBTFUL"),), blast_radius="process", reversibility="reversible", level="patch"
    )

    async def precondition(self, ctx):
        return Finding.applies(confidence=100)

    async def action(self, ctx):
        lock = ctx.subject_path()
        return Plan(
            DeleteFile(path=lock),
            WriteFile(path=lock.parent / "notes.txt", content="rewritten\\n", mode=0o600),
            MoveFile(source=lock.parent / "old", path=lock.parent / "deep" / "er" / "new", parents=True),
        )

    async def verify(self, ctx):
        return Verdict.failed(f"gone: {not await ctx.exists(ctx.event.subject)}; I still doubt it")


@hookimpl
def remediation_runbooks():
    return [Doubter]
'''


@pytest.fixture(scope="session")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return install(EXAMPLE, tmp_path_factory.mktemp("site-packages"))


@pytest.fixture
def user(tmp_path: Path, packages: Path) -> Callable[..., User]:
    def make(profile: str = "autonomous", state: str = "live", plugins: tuple[str, ...] = ()) -> User:
        user = User(tmp_path, (packages, tmp_path))
        user.configure(SETTINGS.format(profile=profile, state=state, plugins=json.dumps(plugins)))
        return user

    return make


def stale_lock(user: User) -> Path:
    lock = user.world / "app.lock"
    lock.write_text(f"{gone_pid()}\n")
    lock.chmod(0o640)
    os.utime(lock, ns=(10**18 + 7, 10**18 + 123_456_789))
    return lock


def test_an_installed_plugin_heals_what_was_reported(user: Callable[..., User]) -> None:
    atlas = user()
    lock = stale_lock(atlas)
    reported = atlas.report("LOCK_STALE", lock)
    assert lock.exists(), "a report changes nothing"
    (settled,) = atlas.succeed("run", "--once", "--json").json
    assert (settled["status"], settled["runbook"]) == ("resolved", "stale-lock-file")
    assert not lock.exists()
    story = atlas.incident(reported)
    assert story["id"] == settled["id"]
    (attempt,) = story["attempts"]
    assert attempt["outcome"] == "healed"
    (stage,) = attempt["stages"]
    assert stage["gate"]["decision"] == "proceed"
    assert [effect["line"] for effect in stage["plan"]["effects"]] == [f"delete {lock}"]
    assert story["todo"] == []
    assert atlas.succeed("journal", "verify", "--json").json["ok"] is True


def test_the_plugin_is_found_by_its_entry_point(user: Callable[..., User]) -> None:
    atlas = user()
    atlas.succeed("run", "--once")
    plugins = {book["id"]: book["plugin"] for book in atlas.succeed("runbooks", "--json").json}
    assert plugins["stale-lock-file"] == "stale-lock"


def test_a_host_that_takes_no_plugins_does_not_know_the_runbook(user: Callable[..., User]) -> None:
    atlas = user()
    settings = atlas.folder / "remediation.toml"
    settings.write_text(settings.read_text().replace("[host]", "[host]\nautoload = false"))
    lock = stale_lock(atlas)
    reported = atlas.report("LOCK_STALE", lock)
    atlas.succeed("run", "--once")
    assert "no runbook handles LOCK_STALE" in atlas.incident(reported)["reason"]
    assert lock.exists()


def test_where_the_precondition_declines_nothing_is_applied(user: Callable[..., User]) -> None:
    atlas = user()
    lock = atlas.world / "app.lock"
    lock.write_text(f"{os.getpid()}\n")
    before = snapshot(atlas.world)
    reported = atlas.report("LOCK_STALE", lock)
    atlas.succeed("run", "--once")
    story = atlas.incident(reported)
    assert (story["status"], story["held"], story["attempts"]) == ("escalated", True, [])
    assert f"{os.getpid()} is alive" in story["reason"]
    assert "attempt.planned" not in atlas.types()
    assert snapshot(atlas.world) == before


@pytest.mark.parametrize("where", ["outside", "through a link"])
def test_what_lies_outside_the_roots_is_not_touched(where: str, user: Callable[..., User]) -> None:
    atlas = user()
    outside = atlas.folder / "outside.lock"
    outside.write_text(f"{gone_pid()}\n")
    (atlas.world / "link.lock").symlink_to(outside)
    (atlas.world / "folder").symlink_to(atlas.folder)
    for subject in (outside,) if where == "outside" else (atlas.world / "link.lock", atlas.world / "folder" / outside.name):
        reported = atlas.report("LOCK_STALE", subject)
        atlas.succeed("run", "--once")
        assert atlas.incident(reported)["status"] == "escalated"
        assert outside.exists()
        assert "attempt.planned" not in atlas.types()


def test_what_failed_verification_is_taken_back_byte_for_byte(user: Callable[..., User], tmp_path: Path) -> None:
    (tmp_path / "doubter.py").write_text(DOUBTER)
    atlas = user(plugins=("doubter",))
    lock = stale_lock(atlas)
    for name, mode in (("notes.txt", 0o604), ("old", 0o755)):
        path = atlas.world / name
        path.write_bytes(b"\x00\xff\r\n" + name.encode())
        path.chmod(mode)
        os.utime(path, ns=(10**18, 10**18 + mode))
    before = snapshot(atlas.world)
    reported = atlas.report("DOUBTFUL", lock)
    (settled,) = atlas.succeed("run", "--once", "--json").json
    assert settled["status"] == "heal_failed"
    story = atlas.incident(reported)
    assert story["dirty"] is False
    (attempt,) = story["attempts"]
    assert (attempt["outcome"], attempt["reason"]) == ("failed", "gone: True; I still doubt it")
    assert [effect["reverted"] for effect in attempt["stages"][0]["plan"]["effects"]] == [True, True, True]
    assert snapshot(atlas.world) == before


@pytest.mark.parametrize(
    ("profile", "state", "row", "why"),
    [
        ("observe", "live", "profile", "the profile is observe"),
        ("supervised", "live", "profile", "the profile is supervised"),
        ("autonomous", "registered", "lifecycle", "stale-lock-file is registered"),
        ("autonomous", "quarantined", "lifecycle", "stale-lock-file is quarantined"),
    ],
)
def test_what_may_not_act_changes_nothing_and_shows_its_plan(
    profile: str, state: str, row: str, why: str, user: Callable[..., User]
) -> None:
    atlas = user(profile, state)
    lock = stale_lock(atlas)
    before = snapshot(atlas.world)
    reported = atlas.report("LOCK_STALE", lock)
    atlas.succeed("run", "--once")
    assert snapshot(atlas.world) == before
    story = atlas.incident(reported)
    assert (story["status"], story["held"]) == ("escalated", True)
    assert why in story["reason"]
    (attempt,) = story["attempts"]
    assert attempt["outcome"] == "withheld"
    (stage,) = attempt["stages"]
    assert stage["gate"]["decision"] == ("ask" if profile == "supervised" else "observe")
    assert row in [reason["row"] for reason in stage["gate"]["reasons"]]
    (effect,) = stage["plan"]["effects"]
    assert effect["line"] == f"delete {lock}"
    assert f"-{lock.read_text()}" in effect["diff"]
    assert effect["outcome"] is None
    assert story["todo"]
    assert f"delete {lock}" in atlas.succeed("incident", "show", reported).out
    assert f"delete {lock}" in atlas.succeed("incident", "show", reported, "--markdown").out


def test_changed_code_of_a_live_runbook_is_promoted_by_an_entry_of_its_own(user: Callable[..., User], tmp_path: Path) -> None:
    (tmp_path / "doubter.py").write_text(DOUBTER)
    atlas = user(plugins=("doubter",))
    atlas.succeed("run", "--once")
    digest = {book["id"]: book["code_digest"] for book in atlas.succeed("runbooks", "--json").json}
    (tmp_path / "doubter.py").write_text(DOUBTER + "\n# changed\n")
    atlas.succeed("run", "--once")
    books = {book["id"]: book for book in atlas.succeed("runbooks", "--json").json}
    assert books["doubter"]["code_digest"] != digest["doubter"]
    assert books["stale-lock-file"]["code_digest"] == digest["stale-lock-file"]
    assert atlas.types().count("runbook.promoted") == 3


def test_the_tests_of_the_example_pass(packages: Path, tmp_path: Path) -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "error", "tests"],
        cwd=EXAMPLE,
        env={**User(tmp_path, (packages,)).environment(), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "10 passed" in ran.stdout


def test_the_example_ships_with_the_proposal_that_it_descends_from() -> None:
    module = (EXAMPLE / "src" / "stale_lock.py").read_text()
    (name,) = [line.split('"')[1] for line in module.splitlines() if line.startswith("__proposal_derived_from__")]
    proposal = (EXAMPLE / "proposals" / f"{name}.md").read_text()
    parts = (ROOT / "proposals" / "README.md").read_text()
    for part in ("degradation", "cause", "contract", "precondition", "action", "verification", "escalation", "evidence"):
        assert f"| {part} |" in parts
        assert f"\n## {part.capitalize()}\n" in proposal
