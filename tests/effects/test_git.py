"""Commits: exactly the files that were meant, people's work untouched, nothing of the repository's configuration run."""

import asyncio
import os
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import ValidationError
from tests.support.world import EffectWorld, carry_out, prepare, stored, tree

from remediation.effects import GitCommit, git_advance
from remediation.errors import EffectConflict, EffectError, EffectRefused, OutsideRoots
from remediation.model.plan import Probe, Promise
from remediation.model.runbook import Reversibility


class Repository:
    """A repository with one commit on `main`: a file, one in a folder, an executable."""

    def __init__(self, path: Path, *options: str) -> None:
        self.path = path
        path.mkdir(parents=True, exist_ok=True)
        self("init", "-q", "-b", "main", *options)
        (path / "page.html").write_text("<h1>Hello</h1>\n")
        (path / "jobs").mkdir()
        (path / "jobs" / "build.py").write_text("print(1)\n")
        (path / "run").write_text("#!/bin/sh\n")
        (path / "run").chmod(0o755)
        self("add", ".")
        self("commit", "-q", "-m", "First")

    def __call__(self, *words: str, ok: bool = True) -> str:
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.path.parent / "nobody"),
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_OPTIONAL_LOCKS": "0",
            **{f"GIT_{role}_{key}": value for role in ("AUTHOR", "COMMITTER") for key, value in (("NAME", "P"), ("EMAIL", "p@x"))},
        }
        done = subprocess.run(["git", *words], cwd=self.path, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0 or not ok, done.stderr
        return done.stdout

    def head(self) -> str:
        return self("rev-parse", "HEAD").strip()

    def status(self) -> str:
        return self("status", "--porcelain")


@pytest.fixture
def world(tmp_path: Path) -> EffectWorld:
    return EffectWorld(tmp_path)


@pytest.fixture
def repository(world: EffectWorld) -> Repository:
    return Repository(world.root / "site")


def commit(where: Repository, **fields: object) -> GitCommit:
    return GitCommit(
        **{
            "repository": where.path,
            "files": {"page.html": "<h1>Mended</h1>\n", "templates/new/page.html": "new\n"},
            "deletes": ["jobs/build.py"],
            "message": "Mend the page\n\nThe template was gone.",
            **fields,
        }
    )


async def test_a_commit_holds_exactly_what_was_meant(world: EffectWorld, repository: Repository) -> None:
    effect = commit(repository, author="Healer <healer@host>")
    first = repository.head()
    prepared, output = await carry_out(effect, world)
    assert repository.head() == output.commit == prepared.commit
    assert repository("rev-parse", "HEAD~1").strip() == first
    assert repository("log", "-1", "--format=%an|%ae|%cn|%ce|%B").strip() == (
        "Healer|healer@host|Healer|healer@host|Mend the page\n\nThe template was gone."
    )
    assert repository("diff", "--name-status", "HEAD~1").splitlines() == [
        "D\tjobs/build.py",
        "M\tpage.html",
        "A\ttemplates/new/page.html",
    ]
    assert repository.status() == ""
    assert (repository.path / "templates" / "new" / "page.html").read_text() == "new\n"
    assert not (repository.path / "jobs" / "build.py").exists()
    repository("fsck", "--strict")
    assert "remediation: Mend the page" in repository("reflog", "main")
    assert await effect.probe(world, prepared) is Probe.APPLIED
    assert not list(repository.path.rglob("*remediation*"))


async def test_the_stored_plan_is_the_effect(world: EffectWorld, repository: Repository) -> None:
    effect = commit(repository)
    assert stored(effect).promised(world) is Promise.STATE
    assert effect.reversibility(world) is Reversibility.REVERSIBLE
    assert effect.describe() == f"commit 3 files to the checked-out branch of {repository.path}: Mend the page"
    assert effect.touches().paths == tuple(
        str(repository.path / name) for name in ("page.html", "templates/new/page.html", "jobs/build.py")
    )


async def test_preparing_adds_nothing_to_the_repository(world: EffectWorld, repository: Repository) -> None:
    before = tree(repository.path)
    effect = commit(repository)
    prepared = await prepare(effect, world)
    assert tree(repository.path) == before
    assert await effect.probe(world, prepared) is Probe.NOT_APPLIED
    diff = effect.diff(prepared, world)
    assert "-<h1>Hello</h1>\n+<h1>Mended</h1>\n" in diff
    assert "deleted file mode 100644" in diff
    assert tree(repository.path) == before


async def test_modes_are_kept(world: EffectWorld, repository: Repository) -> None:
    (repository.path / "run").chmod(0o750)
    await carry_out(commit(repository, files={"run": "#!/bin/sh\nexit 1\n", "new": "x"}, deletes=[]), world)
    assert repository("ls-tree", "HEAD", "run", "new").split()[0::4] == ["100644", "100755"]
    assert stat.S_IMODE((repository.path / "run").stat().st_mode) == 0o750
    assert repository.status() == ""


async def test_names_of_every_kind_can_be_committed(world: EffectWorld, repository: Repository) -> None:
    names = ["with space", "ünïcode/日本", 'quo"te', "*", "-dash", ":(top)magic", "a\\b"]
    await carry_out(commit(repository, files=dict.fromkeys(names, "x\n"), deletes=[]), world)
    assert sorted(repository("ls-tree", "-r", "-z", "--name-only", "HEAD").split("\0")[:-1]) == sorted(
        [*names, "page.html", "jobs/build.py", "run"]
    )
    assert repository.status() == ""


async def test_bytes_come_from_the_blob_store(world: EffectWorld, repository: Repository) -> None:
    data = os.urandom(100_000)
    effect = commit(repository, files={"logo.png": await world.blobs.put(data)}, deletes=[])
    prepared, output = await carry_out(effect, world)
    assert (repository.path / "logo.png").read_bytes() == data
    assert repository.status() == ""
    await effect.revert(world, prepared, output)
    assert not (repository.path / "logo.png").exists()


async def test_peoples_uncommitted_work_is_untouched(world: EffectWorld, repository: Repository) -> None:
    (repository.path / "run").write_text("#!/bin/sh\nstaged\n")
    repository("add", "run")
    (repository.path / "run").write_text("#!/bin/sh\nunstaged\n")
    (repository.path / "notes").write_text("untracked")
    (repository.path / "draft").write_text("added")
    repository("add", "draft")
    before = repository.status()
    effect = commit(repository)
    prepared, output = await carry_out(effect, world)
    assert repository.status() == before == "A  draft\nMM run\n?? notes\n"
    assert repository("show", ":run") == "#!/bin/sh\nstaged\n"
    assert (repository.path / "run").read_text() == "#!/bin/sh\nunstaged\n"
    await effect.revert(world, prepared, output)
    assert repository.status() == before


def modified(repository: Repository) -> None:
    (repository.path / "page.html").write_text("mine\n")


def staged(repository: Repository) -> None:
    modified(repository)
    repository("add", "page.html")
    (repository.path / "page.html").write_text("<h1>Hello</h1>\n")


def removed(repository: Repository) -> None:
    (repository.path / "page.html").unlink()


def executable(repository: Repository) -> None:
    (repository.path / "page.html").chmod(0o755)


def untracked(repository: Repository) -> None:
    (repository.path / "templates" / "new").mkdir(parents=True)
    (repository.path / "templates" / "new" / "page.html").write_text("mine\n")


def locked(repository: Repository) -> None:
    (repository.path / ".git" / "index.lock").touch()


def merging(repository: Repository) -> None:
    repository("checkout", "-q", "-b", "other")
    (repository.path / "run").write_text("other\n")
    repository("commit", "-qam", "Other")
    repository("checkout", "-q", "main")
    (repository.path / "run").write_text("main\n")
    repository("commit", "-qam", "Main")
    repository("merge", "other", ok=False)


def assumed(repository: Repository) -> None:
    repository("update-index", "--assume-unchanged", "page.html")


def without_index(repository: Repository) -> None:
    (repository.path / ".git" / "index").unlink()


WORK = [modified, staged, removed, executable, untracked, locked, merging, assumed, without_index]


@pytest.mark.parametrize("work", WORK, ids=lambda function: function.__name__)
async def test_work_in_the_way_is_a_conflict_when_planning(
    world: EffectWorld, repository: Repository, work: Callable[[Repository], None]
) -> None:
    work(repository)
    before = tree(repository.path)
    with pytest.raises(EffectConflict):
        await commit(repository).prepare(world)
    assert tree(repository.path) == before


@pytest.mark.parametrize("work", [*WORK[:-1], "moved", "switched"], ids=lambda item: getattr(item, "__name__", item))
async def test_work_in_the_way_is_a_conflict_when_applying(
    world: EffectWorld, repository: Repository, work: Callable[[Repository], None] | str
) -> None:
    effect = commit(repository)
    prepared = await prepare(effect, world)
    if work == "moved":
        repository("commit", "-q", "--allow-empty", "-m", "Somebody's")
    elif work == "switched":
        repository("checkout", "-q", "-b", "elsewhere")
    else:
        work(repository)
    status, before = repository.status(), tree(repository.path)
    files = {path: path.lstat().st_ino for path in (repository.path / "jobs" / "build.py", repository.path / "run")}
    with pytest.raises(EffectConflict):
        await effect.apply(world, prepared)
    now = tree(repository.path)
    assert {name: now[name] for name in before} == before
    assert {path: path.lstat().st_ino for path in files} == files, "a file was changed and put back: it was looked at too late"
    added = {name for name in now if name not in before and "/objects" not in name}
    assert added == set()
    assert repository.status() == status
    assert await effect.probe(world, prepared) is Probe.NOT_APPLIED


async def test_a_branch_that_moves_in_the_last_moment_puts_the_files_back(
    world: EffectWorld, repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    effect = commit(repository)
    prepared = await prepare(effect, world)
    real = git_advance.Git.set_value
    theirs = repository("commit-tree", "HEAD^{tree}", "-p", "HEAD", "-m", "Theirs").strip()

    async def late(*args: object) -> None:
        repository("update-ref", "refs/heads/main", theirs)
        await real(*args)

    monkeypatch.setattr(git_advance.Git, "set_value", late)
    with pytest.raises(EffectConflict, match="moved by somebody else"):
        await effect.apply(world, prepared)
    assert repository.head() == theirs
    assert repository.status() == ""
    assert not list(repository.path.rglob("*remediation*"))


async def test_a_file_that_changes_in_the_last_moment_is_left_alone_and_the_others_are_put_back(
    world: EffectWorld, repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    effect = commit(repository)
    prepared = await prepare(effect, world)
    real = git_advance.Advance._carry

    def late(self: git_advance.Advance, resuming: bool) -> None:
        (repository.path / "jobs" / "build.py").write_text("mine\n")
        real(self, resuming)

    monkeypatch.setattr(git_advance.Advance, "_carry", late)
    with pytest.raises(EffectError, match="no longer as it was"):
        await effect.apply(world, prepared)
    assert (repository.path / "page.html").read_text() == "<h1>Hello</h1>\n"
    assert (repository.path / "jobs" / "build.py").read_text() == "mine\n"
    assert not (repository.path / "templates").exists()


async def test_a_cancelled_apply_is_put_back_or_completed(world: EffectWorld, repository: Repository) -> None:
    effect = commit(repository)
    prepared = await prepare(effect, world)
    for pause in range(0, 60, 6):
        task = asyncio.create_task(effect.apply(world, prepared))
        await asyncio.sleep(pause / 1000)
        task.cancel()
        try:
            await task
        except asyncio.CancelledError:
            found = await effect.probe(world, prepared)
            assert repository.status() == ""
            assert not list(repository.path.rglob("*remediation*"))
            if found is Probe.NOT_APPLIED:
                continue
        break
    if await effect.probe(world, prepared) is Probe.NOT_APPLIED:
        await effect.apply(world, prepared)
    assert repository.head() == prepared.commit
    assert repository.status() == ""


async def test_a_revert_is_another_commit(world: EffectWorld, repository: Repository) -> None:
    effect = commit(repository)
    files = {name: value[:4] for name, value in tree(repository.path).items() if not name.startswith(".git")}
    prepared, output = await carry_out(effect, world)
    await effect.revert(world, prepared, output)
    assert repository("log", "--format=%s").splitlines() == ['Revert "Mend the page"', "Mend the page", "First"]
    assert f"This reverts commit {output.commit}." in repository("log", "-1", "--format=%b")
    assert repository("diff", "HEAD~2") == ""
    assert repository.status() == ""
    assert {name: value[:4] for name, value in tree(repository.path).items() if not name.startswith(".git")} == files
    head = repository.head()
    await effect.revert(world, prepared, output)
    assert repository.head() == head
    assert await effect.probe(world, prepared) is Probe.NOT_APPLIED


async def test_what_never_happened_is_not_reverted(world: EffectWorld, repository: Repository) -> None:
    effect = commit(repository)
    prepared = await prepare(effect, world)
    before = tree(repository.path)
    await effect.revert(world, prepared, None)
    assert tree(repository.path) == before


async def test_a_revert_keeps_what_others_committed_since(world: EffectWorld, repository: Repository) -> None:
    effect = commit(repository)
    prepared, output = await carry_out(effect, world)
    (repository.path / "run").write_text("#!/bin/sh\ntheirs\n")
    repository("commit", "-qam", "Theirs")
    assert await effect.probe(world, prepared) is Probe.APPLIED
    await effect.revert(world, prepared, output)
    assert repository("log", "--format=%s").splitlines()[:2] == ['Revert "Mend the page"', "Theirs"]
    assert (repository.path / "run").read_text() == "#!/bin/sh\ntheirs\n"
    assert (repository.path / "page.html").read_text() == "<h1>Hello</h1>\n"
    assert repository.status() == ""


async def test_a_revert_leaves_alone_what_others_changed_since(world: EffectWorld, repository: Repository) -> None:
    effect = commit(repository)
    prepared, output = await carry_out(effect, world)
    (repository.path / "page.html").write_text("mine\n")
    before = tree(repository.path)
    with pytest.raises(EffectConflict):
        await effect.revert(world, prepared, output)
    assert tree(repository.path).items() >= {k: v for k, v in before.items() if not k.startswith(".git")}.items()
    repository("commit", "-qam", "Mine")
    head = repository.head()
    with pytest.raises(EffectConflict, match="later commits"):
        await effect.revert(world, prepared, output)
    assert repository.head() == head
    assert repository.status() == ""
    repository("checkout", "-q", "-b", "elsewhere", prepared.commit)
    repository("branch", "-qf", "main", prepared.commit)
    with pytest.raises(EffectConflict, match="git revert"):
        await effect.revert(world, prepared, output)


async def test_another_branch_is_committed_to_without_touching_the_working_tree(world: EffectWorld, repository: Repository) -> None:
    repository("branch", "fixes")
    before = {name: value for name, value in tree(repository.path).items() if not name.startswith(".git")}
    effect = commit(repository, branch="fixes")
    prepared, output = await carry_out(effect, world)
    assert repository("rev-parse", "fixes").strip() == output.commit
    assert repository("show", "fixes:page.html") == "<h1>Mended</h1>\n"
    assert {name: value for name, value in tree(repository.path).items() if not name.startswith(".git")} == before
    assert repository.status() == ""
    await effect.revert(world, prepared, output)
    assert repository("diff", "main", "fixes") == ""
    assert repository("rev-list", "--count", "fixes").strip() == "3"


async def test_a_branch_that_is_not_there_begins_at_head_and_is_removed_again(world: EffectWorld, repository: Repository) -> None:
    effect = commit(repository, branch="heal/page-1")
    prepared, output = await carry_out(effect, world)
    assert repository("rev-parse", "heal/page-1~1").strip() == repository.head()
    assert await effect.probe(world, prepared) is Probe.APPLIED
    await effect.revert(world, prepared, output)
    assert repository("branch", "--list", "heal/*") == ""
    assert await effect.probe(world, prepared) is Probe.NOT_APPLIED
    effect = commit(repository, branch="heal/page-2")
    prepared = await prepare(effect, world)
    repository("branch", "heal/page-2")
    with pytest.raises(EffectConflict):
        await effect.apply(world, prepared)


async def test_a_detached_head_a_bare_repository_and_one_without_commits_are_refused(world: EffectWorld) -> None:
    detached = Repository(world.root / "detached")
    detached("checkout", "-q", "--detach")
    with pytest.raises(EffectRefused, match="detached"):
        await commit(detached).prepare(world)
    await commit(detached, branch="side").prepare(world)
    detached("clone", "-q", "--bare", ".", "../bare")
    with pytest.raises(EffectRefused, match="bare"):
        await commit(detached, repository=world.root / "bare").prepare(world)
    subprocess.run(["git", "init", "-q", world.root / "empty"], check=True)
    with pytest.raises(EffectRefused, match="no commits"):
        await commit(detached, repository=world.root / "empty").prepare(world)
    with pytest.raises(EffectRefused, match="not the top"):
        await commit(detached, repository=detached.path / "jobs").prepare(world)


async def test_a_linked_working_tree_is_one_like_any_other(world: EffectWorld, repository: Repository) -> None:
    repository("worktree", "add", "-q", "-b", "linked", "../linked")
    effect = commit(repository, repository=world.root / "linked")
    prepared, output = await carry_out(effect, world)
    assert repository("rev-parse", "linked").strip() == output.commit
    assert repository("-C", "../linked", "status", "--porcelain") == ""
    assert repository.status() == ""
    await effect.revert(world, prepared, output)
    assert repository("-C", "../linked", "status", "--porcelain") == ""
    with pytest.raises(EffectRefused, match="another working tree"):
        await commit(repository, branch="linked").prepare(world)


async def test_a_repository_that_reaches_outside_the_roots_is_refused(world: EffectWorld, repository: Repository) -> None:
    outside = Repository(world.base / "outside")
    with pytest.raises(OutsideRoots):
        await commit(outside).prepare(world)
    outside("worktree", "add", "-q", "-b", "linked", str(world.root / "linked"))
    with pytest.raises(OutsideRoots):
        await commit(repository, repository=world.root / "linked").prepare(world)
    (repository.path / ".git").rename(world.base / "hidden")
    (repository.path / ".git").symlink_to(world.base / "hidden")
    with pytest.raises(OutsideRoots, match="symbolic link"):
        await commit(repository).prepare(world)


async def test_links_folders_and_submodules_are_left_alone(world: EffectWorld, repository: Repository) -> None:
    (repository.path / "link").symlink_to("page.html")
    repository("add", "link")
    repository("commit", "-qm", "Link")
    Repository(repository.path / "nested")
    for path, error in (
        ("link", EffectRefused),
        ("jobs", EffectRefused),
        ("link/x", OutsideRoots),
        ("page.html/x", OutsideRoots),
        ("nested/x", EffectRefused),
    ):
        with pytest.raises(error):
            await commit(repository, files={path: "x"}, deletes=[]).prepare(world)
    (repository.path / "away").symlink_to(world.base)
    with pytest.raises(OutsideRoots):
        await commit(repository, files={"away/x": "x"}, deletes=[]).prepare(world)


async def test_paths_whose_content_git_would_convert_are_refused(world: EffectWorld, repository: Repository) -> None:
    (repository.path / ".gitattributes").write_text("*.bin filter=lfs\n*.u16 working-tree-encoding=UTF-16\n*.txt text\n")
    repository("add", ".gitattributes")
    repository("commit", "-qm", "Attributes")
    for path, content in (("a.bin", "x"), ("a.u16", "x"), ("a.txt", "x\r\n")):
        with pytest.raises(EffectRefused, match="git converts"):
            await commit(repository, files={path: content}, deletes=[]).prepare(world)
    await carry_out(commit(repository, files={"a.txt": "x\n"}, deletes=[]), world)
    assert repository.status() == ""


async def test_nothing_that_the_repository_configures_is_run(world: EffectWorld, repository: Repository) -> None:
    trap = world.base / "trap"
    trap.write_text(f'#!/bin/sh\necho "$0 $@" >> {world.base}/sprung\ncat\n')
    trap.chmod(0o755)
    (repository.path / ".gitattributes").write_text("page.html diff=trap\nrun filter=trap\n")
    repository("add", ".gitattributes")
    repository("commit", "-qm", "Attributes")
    # An entry that is no older than the index: git filters the file to find out whether it changed, even when it writes an index.
    os.utime(repository.path / "run", (4e9, 4e9))
    repository("update-index", "--refresh")
    hooks = repository.path / ".git" / "hooks"
    hooks.mkdir(exist_ok=True)
    for hook in ("pre-commit", "post-commit", "commit-msg", "reference-transaction", "post-index-change", "post-checkout"):
        (hooks / hook).symlink_to(trap)
    for key, value in {
        "core.hooksPath": str(hooks),
        "core.fsmonitor": str(trap),
        "core.editor": str(trap),
        "core.pager": str(trap),
        "core.sshCommand": str(trap),
        "core.alternateRefsCommand": str(trap),
        "commit.gpgSign": "true",
        "gpg.program": str(trap),
        "user.signingKey": "x",
        "diff.external": str(trap),
        "diff.trap.textconv": str(trap),
        "diff.trap.command": str(trap),
        "filter.trap.clean": str(trap),
        "filter.trap.smudge": str(trap),
        "filter.trap.required": "true",
        "pager.diff-tree": str(trap),
        "credential.helper": str(trap),
        "gc.auto": "1",
    }.items():
        repository("config", key, value)
    (world.base / "sprung").unlink(missing_ok=True)
    effect = commit(repository)
    prepared, output = await carry_out(effect, world)
    assert await effect.probe(world, prepared) is Probe.APPLIED
    await effect.revert(world, prepared, output)
    assert not (world.base / "sprung").exists(), (world.base / "sprung").read_text()
    assert repository("log", "--format=%s", "-c", "core.fsmonitor=false", ok=False) is not None
    assert "gpgsig" not in repository("cat-file", "commit", output.commit)


async def test_a_change_that_git_can_tell_only_by_content_stays_visible(world: EffectWorld, repository: Repository) -> None:
    # An entry that is no older than the index is compared by content ("racily clean"); a younger index would hide the change.
    repository("config", "core.trustCtime", "false")
    repository("config", "core.checkStat", "minimal")
    changed, moment = repository.path / "run", 10**18
    os.utime(changed, ns=(moment, moment))
    repository("update-index", "--refresh")
    os.utime(repository.path / ".git" / "index", ns=(moment, moment))
    changed.write_text("#!/bin/ls\n")
    os.utime(changed, ns=(moment, moment))
    assert repository.status() == " M run\n"
    await carry_out(commit(repository), world)
    assert repository.status() == " M run\n"


async def test_a_working_tree_that_the_repository_places_elsewhere_is_not_used(world: EffectWorld, repository: Repository) -> None:
    (world.base / "victim").mkdir()
    repository("config", "core.worktree", str(world.base / "victim"))
    await carry_out(commit(repository), world)
    assert os.listdir(world.base / "victim") == []
    assert (repository.path / "page.html").read_text() == "<h1>Mended</h1>\n"


async def test_somebody_elses_repository_is_refused_unless_it_is_shared(
    world: EffectWorld, repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 4321)
    with pytest.raises(EffectRefused, match="belongs to user"):
        await commit(repository).prepare(world)
    repository("config", "core.sharedRepository", "group")
    await carry_out(commit(repository), world)
    assert repository.status() == ""


async def test_somebody_elses_shared_repository_is_no_danger_to_git(world: EffectWorld, repository: Repository) -> None:
    repository("config", "core.sharedRepository", "group")
    if os.geteuid() == 0:
        for path in [repository.path, *repository.path.rglob("*")]:
            os.lchown(path, 4321, 4321)
    effect = commit(repository)
    prepared, _ = await carry_out(effect, world)
    assert await effect.probe(world, prepared) is Probe.APPLIED
    if os.geteuid() == 0:
        assert (repository.path / "page.html").stat().st_uid == 4321


async def test_a_repository_with_sha256_ids_works(world: EffectWorld) -> None:
    repository = Repository(world.root / "sha256", "--object-format=sha256")
    effect = commit(repository)
    prepared, output = await carry_out(effect, world)
    assert len(output.commit) == 64
    assert repository.status() == ""
    await effect.revert(world, prepared, output)
    assert repository.status() == ""
    side = commit(repository, branch="side")
    world.key = "attempt:0:1"
    prepared, output = await carry_out(side, world)
    await side.revert(world, prepared, output)


async def test_a_commit_that_would_change_nothing_is_a_conflict(world: EffectWorld, repository: Repository) -> None:
    with pytest.raises(EffectConflict, match="nothing to commit"):
        await commit(repository, files={"page.html": "<h1>Hello</h1>\n"}, deletes=[]).prepare(world)
    with pytest.raises(EffectConflict, match="can't be deleted"):
        await commit(repository, deletes=["none"]).prepare(world)


async def test_an_untracked_file_with_the_same_content_is_adopted(world: EffectWorld, repository: Repository) -> None:
    (repository.path / "recovered.html").write_text("same\n")
    (repository.path / "recovered.html").chmod(0o755)
    effect = commit(repository, files={"recovered.html": "same\n"}, deletes=[])
    prepared, output = await carry_out(effect, world)
    assert repository.status() == ""
    await effect.revert(world, prepared, output)
    assert repository.status() == "?? recovered.html\n"
    assert (repository.path / "recovered.html").read_text() == "same\n"


async def test_two_commits_at_once_are_one_and_a_conflict(world: EffectWorld, repository: Repository) -> None:
    worlds = [world, EffectWorld(world.base, key="other:0:0")]
    effects = [commit(repository), commit(repository, files={"other": "x"}, deletes=[])]
    prepared = [await prepare(effect, one) for effect, one in zip(effects, worlds, strict=True)]
    results = await asyncio.gather(
        *(effect.apply(one, item) for effect, one, item in zip(effects, worlds, prepared, strict=True)), return_exceptions=True
    )
    assert sorted(type(result).__name__ for result in results) == ["EffectConflict", "GitOutput"]
    assert repository("rev-list", "--count", "HEAD").strip() == "2"
    assert repository.status() == ""


async def test_hostile_words_are_harmless_in_the_log(world: EffectWorld, repository: Repository) -> None:
    effect = commit(repository, message="\x1b[2JMend\u202e\n\nbody\x07\n")
    prepared, output = await carry_out(effect, world)
    await effect.revert(world, prepared, output)
    log = repository("log", "--format=%B")
    assert "\x1b" not in log
    assert "\u202e" not in log
    assert "Mend" in log
    assert effect.describe().isprintable()


async def test_it_does_not_begin_after_its_deadline(world: EffectWorld, repository: Repository) -> None:
    effect = commit(repository)
    prepared = await prepare(effect, world)
    before = tree(repository.path)
    world.deadline = world.clock.monotonic() - 1
    with pytest.raises(EffectError, match="deadline"):
        await effect.apply(world, prepared)
    assert tree(repository.path) == before


async def test_a_repository_that_is_gone_is_unknown(world: EffectWorld, repository: Repository) -> None:
    effect = commit(repository)
    prepared = await prepare(effect, world)
    repository.path.rename(world.base / "gone")
    assert await effect.probe(world, prepared) is Probe.UNKNOWN


def test_nonsense_is_refused() -> None:
    good = {"repository": "/r", "files": {"a": "x"}, "message": "m"}
    GitCommit(**good)
    for fields in (
        {"files": {}},
        {"files": {"../a": "x"}},
        {"files": {"/a": "x"}},
        {"files": {"a/.git/config": "x"}},
        {"files": {".GIT/hooks/x": "x"}},
        {"files": {"a//b": "x"}},
        {"files": {"a\n": "x"}},
        {"files": {"a": "x" * 70_000}},
        {"deletes": ["a"]},
        {"message": ""},
        {"author": "nobody"},
        {"author": "a\n <b@c>"},
        {"repository": "r"},
        *({"branch": name} for name in ("", "-x", "a..b", "a b", "a~1", "a.lock", "a/.b", "a@{1}", "a/", "HEAD", "a:b", "@")),
    ):
        with pytest.raises(ValidationError):
            GitCommit(**{**good, **fields})
    for name in ("main", "heal/page-1", "v1.2_x"):
        assert GitCommit(**good, branch=name).branch == name
