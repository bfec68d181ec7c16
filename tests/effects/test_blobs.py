"""Content by digest: durable, whole or absent, stored once, private."""

import hashlib
import os
import textwrap
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.crashing import run_python

from remediation.errors import EffectError
from remediation.model.plan import BlobRef
from remediation.stores.blobs import FileBlobStore


@pytest.fixture
def store(tmp_path: Path) -> FileBlobStore:
    return FileBlobStore(tmp_path / "blobs")


def files(store: FileBlobStore) -> list[Path]:
    return [path for path in store.root.rglob("*") if path.is_file()]


async def test_what_was_put_comes_back(store: FileBlobStore) -> None:
    ref = await store.put(b"before")
    assert ref == BlobRef(sha256=hashlib.sha256(b"before").hexdigest(), size=6)
    assert await store.get(ref) == b"before"
    assert store.path(ref).read_bytes() == b"before"


@given(content=st.binary(max_size=5000))
def test_any_content_comes_back(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    store = FileBlobStore(tmp_path_factory.getbasetemp() / "any")
    assert store.get_blocking(store.put_blocking(content)) == content


async def test_a_file_is_streamed_in(store: FileBlobStore, tmp_path: Path) -> None:
    content = os.urandom(3 * 1024 * 1024 + 7)
    (tmp_path / "big").write_bytes(content)
    ref = await store.put_file(tmp_path / "big")
    assert ref == BlobRef(sha256=hashlib.sha256(content).hexdigest(), size=len(content))
    assert await store.get(ref) == content


async def test_equal_content_is_stored_once(store: FileBlobStore, tmp_path: Path) -> None:
    (tmp_path / "same").write_bytes(b"same")
    assert await store.put(b"same") == await store.put(b"same") == await store.put_file(tmp_path / "same")
    assert len(files(store)) == 1


async def test_nobody_else_may_read_it(store: FileBlobStore) -> None:
    ref = await store.put(b"secret")
    assert store.path(ref).stat().st_mode & 0o777 == 0o600
    assert {path.stat().st_mode & 0o777 for path in (store.root, store.path(ref).parent)} == {0o700}


async def test_a_link_is_not_followed(store: FileBlobStore, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("x")
    (tmp_path / "link").symlink_to(tmp_path / "secret")
    with pytest.raises(EffectError, match="can't keep"):
        await store.put_file(tmp_path / "link")


async def test_what_is_no_regular_file_is_refused_without_waiting(store: FileBlobStore, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path, Path("/dev/zero")):
        with pytest.raises(EffectError, match="no regular file"):
            await store.put_file(path)
    with pytest.raises(EffectError, match="No such file"):
        await store.put_file(tmp_path / "missing")


async def test_a_missing_blob_is_an_error(store: FileBlobStore) -> None:
    with pytest.raises(EffectError, match="can't be read"):
        await store.get(BlobRef(sha256="0" * 64, size=1))


async def test_a_damaged_blob_is_an_error_and_is_mended_when_it_is_put_again(store: FileBlobStore) -> None:
    ref = await store.put(b"content")
    store.path(ref).write_bytes(b"cOntent")
    with pytest.raises(EffectError, match="damaged"):
        await store.get(ref)
    assert await store.put(b"content") == ref
    assert await store.get(ref) == b"content"


async def test_what_a_killed_writer_left_is_removed_when_the_store_is_opened(store: FileBlobStore) -> None:
    script = textwrap.dedent(
        f"""
        import os, pathlib, signal
        from remediation.stores.blobs import FileBlobStore
        store = FileBlobStore(pathlib.Path({str(store.root)!r}))
        os.fsync = lambda descriptor: os.kill(os.getpid(), signal.SIGKILL)
        store.put_blocking(b"half")
        """
    )
    run_python(script)
    assert len(files(store)) == 1
    FileBlobStore(store.root)
    assert files(store) == []


async def test_a_living_writer_keeps_its_file_when_the_store_is_opened_elsewhere(store: FileBlobStore) -> None:
    read, write = os.pipe()
    result: list[BlobRef] = []
    begun = threading.Event()

    def fill(target: int) -> BlobRef:
        begun.set()
        data = os.read(read, 100)
        os.write(target, data)
        return BlobRef(sha256=hashlib.sha256(data).hexdigest(), size=len(data))

    writer = threading.Thread(target=lambda: result.append(store._write(fill)))
    writer.start()
    assert begun.wait(10)
    FileBlobStore(store.root)
    os.write(write, b"slow")
    writer.join(10)
    assert store.get_blocking(result[0]) == b"slow"


async def test_a_writer_whose_file_was_removed_before_it_was_locked_writes_it_again(
    store: FileBlobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    import fcntl

    real, removed = fcntl.flock, []

    def late(descriptor: int, operation: int) -> None:
        if not removed:
            removed.extend(store.root.glob("incoming/*"))
            removed[0].unlink()
        real(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", late)
    assert await store.get(await store.put(b"again")) == b"again"
    assert removed


async def test_content_is_durable_before_it_has_its_name_and_the_name_before_it_is_told(
    store: FileBlobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []
    real_sync, real_rename = os.fsync, Path.rename

    def sync(descriptor: int) -> None:
        path = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        steps.append(f"sync {path.relative_to(store.root).parts[0] if path != store.root else 'root'}")
        real_sync(descriptor)

    def rename(self: Path, target: Path) -> Path:
        steps.append("name")
        return real_rename(self, target)

    monkeypatch.setattr(os, "fsync", sync)
    monkeypatch.setattr(Path, "rename", rename)
    ref = await store.put(b"content")
    shard = ref.sha256[:2]
    assert steps == ["sync incoming", "name", f"sync {shard}", "sync root"]
    steps.clear()
    await store.put(b"content")
    assert steps == [f"sync {shard}"], "another writer may have given the name and not come so far"


def test_many_writers_of_one_content_get_along(store: FileBlobStore) -> None:
    refs: list[BlobRef] = []
    writers = [threading.Thread(target=lambda: refs.append(store.put_blocking(b"x" * 100_000))) for _ in range(8)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(20)
    assert len(refs) == 8
    assert len(set(refs)) == 1
    assert len(files(store)) == 1


def test_a_full_disk_is_told_and_leaves_nothing(store: FileBlobStore) -> None:
    script = textwrap.dedent(
        f"""
        import pathlib, resource
        from remediation.errors import EffectError
        from remediation.stores.blobs import FileBlobStore
        store = FileBlobStore(pathlib.Path({str(store.root)!r}))
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
        try:
            store.put_blocking(b"x" * 20_000)
        except EffectError as error:
            print(error)
        """
    )
    said = run_python(script)
    assert "File too large; free some space" in said
    assert files(store) == []
