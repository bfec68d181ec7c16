"""Files: compare-and-set on what was there, kept exactly when it is taken back."""

import hashlib
import os
import socket
import stat
from pathlib import Path

import pytest
from pydantic import ValidationError
from tests.support.world import EffectWorld, carry_out, prepare, stored, tree

from remediation.effects import CopyFile, DeclaredDisposable, DeleteFile, MoveFile, WriteFile
from remediation.errors import EffectConflict, EffectError, EffectRefused, OutsideRoots
from remediation.model.plan import BlobRef, Probe, Promise
from remediation.model.runbook import Reversibility
from remediation.ports.effect import Effect


@pytest.fixture
def world(tmp_path: Path) -> EffectWorld:
    made = EffectWorld(tmp_path)
    old = made.root / "old"
    old.write_text("one\ntwo\n")
    old.chmod(0o640)
    os.utime(old, ns=(1_500_000_000_123_456_789, 1_500_000_000_123_456_789))
    (made.root / "other").write_text("other\n")
    return made


def every_change(world: EffectWorld) -> list[Effect]:
    root = world.root
    return [
        WriteFile(path=root / "old", content="new\n"),
        WriteFile(path=root / "new", content="new\n", mode=0o600),
        WriteFile(path=root / "a" / "b" / "new", content="new\n", parents=True),
        CopyFile(source=root / "other", path=root / "old"),
        CopyFile(source=root / "other", path=root / "new"),
        CopyFile(source=root / "other", path=root / "a" / "new", parents=True),
        MoveFile(source=root / "old", path=root / "moved"),
        MoveFile(source=root / "old", path=root / "a" / "b" / "moved", parents=True),
        DeleteFile(path=root / "old"),
    ]


KINDS = range(9)


@pytest.mark.parametrize("which", KINDS)
async def test_preparing_changes_nothing(world: EffectWorld, which: int) -> None:
    before = tree(world.root)
    effect = every_change(world)[which]
    prepared = await prepare(effect, world)
    assert tree(world.root) == before
    assert await effect.probe(world, prepared) is Probe.NOT_APPLIED
    assert tree(world.root) == before


@pytest.mark.parametrize("which", KINDS)
async def test_a_change_is_applied_probed_and_taken_back_exactly(world: EffectWorld, which: int) -> None:
    before = tree(world.root)
    effect = every_change(world)[which]
    prepared, output = await carry_out(effect, world)
    assert tree(world.root) != before
    assert await effect.probe(world, prepared) is Probe.APPLIED
    await effect.revert(world, prepared, output)
    assert tree(world.root) == before
    assert await effect.probe(world, prepared) is Probe.NOT_APPLIED


@pytest.mark.parametrize("which", KINDS)
async def test_taking_back_twice_or_what_never_happened_does_nothing(world: EffectWorld, which: int) -> None:
    before = tree(world.root)
    effect = every_change(world)[which]
    prepared = await prepare(effect, world)
    await effect.revert(world, prepared, None)
    assert tree(world.root) == before
    await effect.apply(world, prepared)
    await effect.revert(world, prepared, None)
    await effect.revert(world, prepared, None)
    assert tree(world.root) == before


@pytest.mark.parametrize("which", KINDS)
async def test_the_stored_plan_is_the_effect(world: EffectWorld, which: int) -> None:
    effect = every_change(world)[which]
    assert stored(effect).describe() == effect.describe()
    assert effect.promised(world) is Promise.STATE
    assert effect.reversibility(world) is Reversibility.REVERSIBLE
    assert effect.describe().isprintable()


@pytest.mark.parametrize("which", KINDS)
async def test_a_change_does_not_begin_after_its_deadline(world: EffectWorld, which: int) -> None:
    effect = every_change(world)[which]
    prepared = await prepare(effect, world)
    before = tree(world.root)
    world.deadline = world.clock.monotonic() - 1
    with pytest.raises(EffectError, match="deadline"):
        await effect.apply(world, prepared)
    assert tree(world.root) == before


def disturb_content(path: Path) -> None:
    path.write_text("disturbed\n")


def disturb_mode(path: Path) -> None:
    path.chmod(0o600)


def disturb_attributes(path: Path) -> None:
    os.setxattr(path, "user.mark", b"x")


def disturb_existence(path: Path) -> None:
    path.unlink()


def disturb_kind(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.parent / "other")


@pytest.mark.parametrize(
    "disturb", [disturb_content, disturb_mode, disturb_attributes, disturb_existence, disturb_kind], ids=lambda f: f.__name__
)
@pytest.mark.parametrize("which", [0, 3, 6, 8])
async def test_a_file_that_changed_since_the_plan_is_left_alone(world: EffectWorld, which: int, disturb: object) -> None:
    effect = every_change(world)[which]
    prepared = await prepare(effect, world)
    disturb(world.root / "old")
    before = tree(world.root)
    with pytest.raises((EffectConflict, OutsideRoots)):
        await effect.apply(world, prepared)
    assert tree(world.root) == before
    gone_as_planned = disturb is disturb_existence and isinstance(effect, DeleteFile)
    assert await effect.probe(world, prepared) is (Probe.APPLIED if gone_as_planned else Probe.UNKNOWN)


@pytest.mark.parametrize("which", [1, 4])
async def test_a_file_that_somebody_made_meanwhile_is_left_alone(world: EffectWorld, which: int) -> None:
    effect = every_change(world)[which]
    prepared = await prepare(effect, world)
    (world.root / "new").write_text("theirs\n")
    before = tree(world.root)
    with pytest.raises(EffectConflict):
        await effect.apply(world, prepared)
    assert tree(world.root) == before
    assert await effect.probe(world, prepared) is Probe.UNKNOWN


@pytest.mark.parametrize("which", [0, 1, 3, 4, 8])
async def test_what_somebody_changed_afterwards_is_not_taken_back(world: EffectWorld, which: int) -> None:
    effect = every_change(world)[which]
    prepared, output = await carry_out(effect, world)
    effect.path.write_text("theirs\n")
    before = tree(world.root)
    with pytest.raises(EffectConflict):
        await effect.revert(world, prepared, output)
    assert tree(world.root) == before


async def test_owner_mode_and_attributes_are_kept(world: EffectWorld) -> None:
    old = world.root / "old"
    os.setxattr(old, "user.note", b"\x00\xffbinary")
    if os.geteuid() == 0:
        os.chown(old, 4321, 1234)
    was = old.stat()
    prepared, _ = await carry_out(WriteFile(path=old, content="new\n"), world)
    now = old.stat()
    assert (now.st_uid, now.st_gid, now.st_mode) == (was.st_uid, was.st_gid, was.st_mode)
    assert os.getxattr(old, "user.note") == b"\x00\xffbinary"
    assert now.st_mtime_ns > was.st_mtime_ns
    effect = DeleteFile(path=old)
    world.key = "attempt:0:1"
    prepared, output = await carry_out(effect, world)
    await effect.revert(world, prepared, output)
    again = old.stat()
    assert (again.st_uid, again.st_gid, again.st_mode, again.st_mtime_ns) == (
        was.st_uid,
        was.st_gid,
        was.st_mode,
        now.st_mtime_ns,
    )
    assert os.getxattr(old, "user.note") == b"\x00\xffbinary"


async def test_an_access_control_list_is_kept(world: EffectWorld) -> None:
    old = world.root / "old"
    # struct posix_acl_xattr_header and entries (linux/posix_acl_xattr.h): user::rw-, user:1234:r--, group::r--, mask::r--, other::---
    entries = ((1, 6, -1), (2, 4, 1234), (4, 4, -1), (16, 4, -1), (32, 0, -1))
    packed = b"\x02\x00\x00\x00" + b"".join(
        tag.to_bytes(2, "little") + mode.to_bytes(2, "little") + (who & 0xFFFFFFFF).to_bytes(4, "little")
        for tag, mode, who in entries
    )
    os.setxattr(old, "system.posix_acl_access", packed)
    effect = WriteFile(path=old, content="new\n")
    prepared, output = await carry_out(effect, world)
    assert os.getxattr(old, "system.posix_acl_access") == packed
    await effect.revert(world, prepared, output)
    assert os.getxattr(old, "system.posix_acl_access") == packed


async def test_a_copy_has_mode_and_time_of_its_source_where_nothing_was(world: EffectWorld) -> None:
    source = world.base / "backup"
    source.write_text("kept\n")
    source.chmod(0o604)
    os.utime(source, ns=(10**18, 10**18))
    await carry_out(CopyFile(source=source, path=world.root / "new"), world)
    found = (world.root / "new").stat()
    assert (stat.S_IMODE(found.st_mode), found.st_mtime_ns) == (0o604, 10**18)


async def test_a_source_that_changed_since_the_plan_is_not_copied(world: EffectWorld) -> None:
    effect = CopyFile(source=world.root / "other", path=world.root / "old")
    prepared = await prepare(effect, world)
    (world.root / "other").write_text("Other\n")
    before = tree(world.root)
    with pytest.raises(EffectConflict, match="not what it was"):
        await effect.apply(world, prepared)
    assert tree(world.root) == before
    (world.root / "other").unlink()
    with pytest.raises(EffectConflict, match="gone"):
        await effect.apply(world, prepared)
    with pytest.raises(EffectConflict, match="missing"):
        await effect.prepare(world)


async def test_nothing_of_the_home_is_copied_out(world: EffectWorld) -> None:
    (world.home / "key").write_text("secret")
    (world.root / "link").symlink_to(world.home)
    for source in (world.home / "key", world.root / "link" / "key"):
        with pytest.raises(EffectRefused, match="home or keys"):
            await CopyFile(source=source, path=world.root / "new").prepare(world)


async def test_content_from_the_blob_store_is_written_byte_for_byte(world: EffectWorld) -> None:
    data = os.urandom(2_500_000)
    ref = await world.blobs.put(data)
    effect = WriteFile(path=world.root / "old", blob=ref)
    _, output = await carry_out(effect, world)
    assert (world.root / "old").read_bytes() == data
    assert (output.sha256, output.size) == (hashlib.sha256(data).hexdigest(), len(data))


async def test_a_blob_that_is_damaged_is_not_written(world: EffectWorld) -> None:
    ref = await world.blobs.put(b"content")
    effect = WriteFile(path=world.root / "old", blob=ref)
    prepared = await prepare(effect, world)
    world.blobs.path(ref).write_bytes(b"cOntent")
    before = tree(world.root)
    with pytest.raises(EffectError, match="not what it was"):
        await effect.apply(world, prepared)
    world.blobs.path(ref).unlink()
    with pytest.raises(EffectError, match="can't be read"):
        await effect.apply(world, prepared)
    assert tree(world.root) == before
    with pytest.raises(EffectRefused, match=r"ctx\.keep"):
        await effect.prepare(world)


async def test_writing_what_is_there_already_changes_nothing(world: EffectWorld) -> None:
    before = tree(world.root)
    effect = WriteFile(path=world.root / "old", content="one\ntwo\n")
    prepared, output = await carry_out(effect, world)
    assert await effect.probe(world, prepared) is Probe.APPLIED
    assert tree(world.root) == before
    await effect.revert(world, prepared, output)
    assert tree(world.root) == before


async def test_a_file_that_is_not_there_is_deleted_already(world: EffectWorld) -> None:
    effect = DeleteFile(path=world.root / "none")
    prepared, output = await carry_out(effect, world)
    assert await effect.probe(world, prepared) is Probe.APPLIED
    await effect.revert(world, prepared, output)
    assert not (world.root / "none").exists()


async def test_what_is_not_kept_is_lost_and_says_so(world: EffectWorld) -> None:
    effect = DeleteFile(path=world.root / "old", keep=False)
    assert effect.reversibility(world) is Reversibility.IRREVERSIBLE
    assert "for good" in effect.describe()
    world.disposable = DeclaredDisposable(globs=[f"{world.root}/**"])
    assert effect.reversibility(world) is Reversibility.DISPOSABLE
    prepared, output = await carry_out(effect, world)
    assert list((world.home / "blobs").glob("??/*")) == []
    with pytest.raises(EffectError, match="not kept"):
        await effect.revert(world, prepared, output)


async def test_only_regular_files_with_one_name_are_changed(world: EffectWorld) -> None:
    root = world.root
    os.mkfifo(root / "pipe")
    (root / "folder").mkdir()
    os.link(root / "other", root / "second")
    with socket.socket(socket.AF_UNIX) as listening:
        old = os.getcwd()
        os.chdir(root)
        try:
            listening.bind("socket")
        finally:
            os.chdir(old)
        for name, said in (("pipe", "regular"), ("folder", "regular"), ("socket", "regular"), ("second", "hard links")):
            for effect in (WriteFile(path=root / name, content="x"), DeleteFile(path=root / name)):
                with pytest.raises(EffectRefused, match=said):
                    await effect.prepare(world)
            if name != "second":
                with pytest.raises(EffectRefused):
                    await MoveFile(source=root / name, path=root / "free").prepare(world)
    with pytest.raises(EffectRefused, match="regular"):
        await CopyFile(source=Path("/dev/zero"), path=root / "new").prepare(world)
    (root / "link").symlink_to(root / "other")
    for effect in (
        WriteFile(path=root / "link", content="x"),
        DeleteFile(path=root / "link"),
        MoveFile(source=root / "link", path=root / "free"),
        CopyFile(source=root / "link", path=root / "free"),
    ):
        with pytest.raises((EffectRefused, OutsideRoots), match="symbolic link"):
            await effect.prepare(world)


async def test_a_hard_link_made_after_the_plan_is_noticed(world: EffectWorld) -> None:
    effect = WriteFile(path=world.root / "old", content="new\n")
    prepared = await prepare(effect, world)
    os.link(world.root / "old", world.root / "second")
    with pytest.raises(EffectRefused, match="hard links"):
        await effect.apply(world, prepared)
    assert (world.root / "old").read_text() == (world.root / "second").read_text() == "one\ntwo\n"


async def test_a_file_with_several_names_can_be_moved_and_stays_the_same_file(world: EffectWorld) -> None:
    os.link(world.root / "old", world.root / "second")
    effect = MoveFile(source=world.root / "old", path=world.root / "moved")
    prepared, output = await carry_out(effect, world)
    assert os.path.samefile(world.root / "moved", world.root / "second")
    await effect.revert(world, prepared, output)
    assert os.path.samefile(world.root / "old", world.root / "second")


async def test_a_move_does_not_replace(world: EffectWorld) -> None:
    effect = MoveFile(source=world.root / "old", path=world.root / "moved")
    prepared = await prepare(effect, world)
    (world.root / "moved").symlink_to("nowhere")
    before = tree(world.root)
    with pytest.raises((EffectConflict, OutsideRoots)):
        await effect.apply(world, prepared)
    (world.root / "moved").unlink()
    (world.root / "moved").write_text("theirs")
    with pytest.raises(EffectConflict, match="exists already"):
        await effect.apply(world, prepared)
    with pytest.raises(EffectConflict, match="exists already"):
        await effect.prepare(world)
    assert (world.root / "old").read_text() == "one\ntwo\n"
    assert before["old"] == tree(world.root)["old"]


async def test_a_move_to_another_file_system_is_refused(world: EffectWorld) -> None:
    world = EffectWorld(world.base, roots=[world.root, Path("/dev/shm")])
    effect = MoveFile(source=world.root / "old", path=Path("/dev/shm/remediation-test-moved"))
    with pytest.raises(EffectRefused, match="another file system"):
        await effect.prepare(world)


async def test_a_missing_folder_is_told_and_only_made_on_request(world: EffectWorld) -> None:
    with pytest.raises(EffectConflict, match="folder is missing"):
        await WriteFile(path=world.root / "a" / "new", content="x").prepare(world)
    effect = WriteFile(path=world.root / "a" / "new", content="x", parents=True)
    prepared, output = await carry_out(effect, world)
    (world.root / "a" / "theirs").write_text("x")
    await effect.revert(world, prepared, output)
    assert os.listdir(world.root / "a") == ["theirs"]


async def test_a_folder_that_vanished_since_is_told(world: EffectWorld) -> None:
    (world.root / "a").mkdir()
    (world.root / "a" / "file").write_text("x")
    effect = DeleteFile(path=world.root / "a" / "file")
    prepared, output = await carry_out(effect, world)
    (world.root / "a").rmdir()
    with pytest.raises(EffectError, match="folder is missing"):
        await effect.revert(world, prepared, output)
    assert await effect.probe(world, prepared) is Probe.UNKNOWN


@pytest.mark.parametrize("when", ["prepare", "apply", "revert"])
async def test_a_link_put_on_the_way_is_not_followed(world: EffectWorld, when: str) -> None:
    outside = world.base / "outside"
    outside.mkdir()
    (outside / "file").write_text("one\n")
    (world.root / "a").mkdir()
    (world.root / "a" / "file").write_text("one\n")
    effect = WriteFile(path=world.root / "a" / "file", content="two\n")
    steps = iter(["prepare", "apply", "revert"])
    prepared = None
    for step in steps:
        if step == when:
            (world.root / "a").rename(world.root / "b")
            (world.root / "a").symlink_to(outside)
            with pytest.raises(OutsideRoots):
                if step == "prepare":
                    await effect.prepare(world)
                elif step == "apply":
                    await effect.apply(world, prepared)
                else:
                    await effect.revert(world, prepared, None)
            break
        if step == "prepare":
            prepared = await prepare(effect, world)
        else:
            await effect.apply(world, prepared)
    assert (outside / "file").read_text() == "one\n"
    assert os.listdir(outside) == ["file"]


async def test_a_file_outside_the_roots_or_in_the_home_is_refused(world: EffectWorld) -> None:
    for path in (world.base / "elsewhere", world.home / "journal.sqlite3"):
        for effect in (
            WriteFile(path=path, content="x"),
            WriteFile(path=path, content="x", parents=True),
            CopyFile(source=world.root / "other", path=path),
            MoveFile(source=world.root / "other", path=path),
            MoveFile(source=path, path=world.root / "new"),
            DeleteFile(path=path),
        ):
            with pytest.raises(OutsideRoots):
                await effect.prepare(world)


async def test_a_name_that_is_not_utf8_survives_the_journal(world: EffectWorld) -> None:
    path = Path(os.fsdecode(os.fsencode(world.root) + b"/\xff\x1b[31m"))
    path.write_text("x")
    effect = stored(DeleteFile(path=path))
    assert effect.describe().isprintable()
    prepared, output = await carry_out(effect, world)
    assert not path.exists()
    await effect.revert(world, prepared, output)
    assert path.read_text() == "x"


def test_an_effect_with_contradictory_fields_is_refused() -> None:
    for fields in (
        {"path": "relative", "content": "x"},
        {"path": "/a/../b", "content": "x"},
        {"path": "/a"},
        {"path": "/a", "content": "x", "blob": BlobRef(sha256="0" * 64, size=1)},
        {"path": "/a", "content": "x", "mode": 0o4755},
        {"path": "/a", "content": "x" * 70_000},
        {"path": 3, "content": "x"},
    ):
        with pytest.raises(ValidationError):
            WriteFile(**fields)
    for kind in (CopyFile, MoveFile):
        with pytest.raises(ValidationError, match="one"):
            kind(source="/a", path="/a")


async def test_the_diff_shows_what_will_change(world: EffectWorld) -> None:
    effect = WriteFile(path=world.root / "old", content="one\n2\n", mode=0o600)
    diff = effect.diff(await prepare(effect, world), world)
    old = world.root / "old"
    assert diff == f"mode 0640 becomes 0600\n--- {old}\n+++ {old}\n@@ -1,2 +1,2 @@\n one\n-two\n+2\n"
    effect = DeleteFile(path=old)
    assert effect.diff(await prepare(effect, world), world).endswith("+++ /dev/null\n@@ -1,2 +0,0 @@\n-one\n-two\n")
    effect = CopyFile(source=world.root / "other", path=world.root / "new")
    assert effect.diff(await prepare(effect, world), world).startswith("--- /dev/null\n")
    effect = MoveFile(source=old, path=world.root / "new")
    assert effect.diff(await prepare(effect, world), world) == f"rename from {old}\nrename to {world.root / 'new'}\n"


async def test_the_diff_of_what_is_no_text_tells_sizes(world: EffectWorld) -> None:
    for content in (b"\x00binary", b"\xff\xfe", b"x\n" * 100_000):
        (world.root / "binary").write_bytes(content)
        effect = WriteFile(path=world.root / "binary", content="text")
        diff = effect.diff(await prepare(effect, world), world)
        assert f"-{len(content)} bytes" in diff
        assert len(diff) < 1000


async def test_a_diff_is_bounded_and_harmless_to_print(world: EffectWorld) -> None:
    (world.root / "old").write_text("\x1b[2J\u202e\r\n" * 3000)
    effect = WriteFile(path=world.root / "old", content="\x1b]0;x\x07\n" * 3000)
    diff = effect.diff(await prepare(effect, world), world)
    assert len(diff) <= 16 * 1024
    assert diff.replace("\n", "").isprintable()


async def test_every_step_takes_one_thread(world: EffectWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    from remediation.effects.threads import POOL

    hops: list[object] = []
    real = POOL.submit
    monkeypatch.setattr(POOL, "submit", lambda *work: (hops.append(work), real(*work))[1])
    synced: list[str] = []
    real_sync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda fd: (synced.append(os.readlink(f"/proc/self/fd/{fd}")), real_sync(fd))[1])
    await world.blobs.put((world.root / "old").read_bytes() + b"!")
    synced.clear()
    hops.clear()
    effect = DeleteFile(path=world.root / "old")
    prepared = await effect.prepare(world)
    assert len(hops) == 1
    assert len([path for path in synced if "/blobs" in path]) == len(synced) <= 3
    synced.clear()
    await effect.apply(world, prepared)
    assert len(hops) == 2
    assert synced == [str(world.root)]


async def test_content_is_durable_before_it_is_placed_and_the_folder_after(
    world: EffectWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    from remediation.effects import placing, renaming

    steps: list[str] = []
    real_sync, real_rename = os.fsync, renaming._renamed

    def sync(descriptor: int) -> None:
        steps.append(f"sync {os.path.basename(os.readlink(f'/proc/self/fd/{descriptor}')).rpartition('.part')[1] or 'folder'}")
        real_sync(descriptor)

    def rename(*args: object) -> bool:
        steps.append("place")
        return real_rename(*args)

    monkeypatch.setattr(os, "fsync", sync)
    monkeypatch.setattr(renaming, "_renamed", rename)
    for path in (world.root / "old", world.root / "new"):
        effect = WriteFile(path=path, content="new\n")
        prepared = await prepare(effect, world)
        steps.clear()
        await effect.apply(world, prepared)
        assert steps == ["sync .part", "place", "sync folder"]
    assert placing.exchange is renaming.exchange
