"""Network file systems are recognised by what the kernel says of the mount that really holds a path."""

import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remediation.errors import JournalUnavailable
from remediation.stores import filesystem, sqlite
from remediation.stores.filesystem import kind_of, network_filesystem

LOCAL = b"22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n23 22 0:5 / /proc rw,nosuid - proc proc rw\n"


def mount(point: bytes, kind: bytes, *, optional: bytes = b"shared:7 master:2 ") -> bytes:
    return b"40 22 0:40 / " + point + b" rw,relatime " + optional + b"- " + kind + b" server:/export rw,vers=4.2\n"


@pytest.mark.parametrize(
    ("mounts", "place", "kind"),
    [
        (LOCAL, "/srv/app", "ext4"),
        (LOCAL, "/", "ext4"),
        (LOCAL + mount(b"/srv", b"nfs4"), "/srv/app", "nfs4"),
        (LOCAL + mount(b"/srv", b"nfs4"), "/srv", "nfs4"),
        (LOCAL + mount(b"/srv", b"nfs4"), "/srvx", "ext4"),
        (LOCAL + mount(b"/srv", b"nfs4") + mount(b"/srv/app", b"xfs"), "/srv/app/home", "xfs"),
        (LOCAL + mount(b"/srv/app", b"xfs") + mount(b"/srv", b"nfs4"), "/srv/app/home", "xfs"),
        (LOCAL + mount(b"/srv", b"xfs") + mount(b"/srv", b"cifs"), "/srv/app", "cifs"),
        (LOCAL + mount(b"/srv", b"cifs") + mount(b"/srv", b"xfs"), "/srv/app", "xfs"),
        (LOCAL + mount(rb"/my\040share", b"cifs"), "/my share/home", "cifs"),
        (LOCAL + mount(rb"/my\011\012share", b"cifs"), "/my\t\nshare", "cifs"),
        (LOCAL + mount(rb"/back\134x41slash", b"nfs"), r"/back\x41slash/home", "nfs"),
        (LOCAL + mount("/données".encode(), b"nfs"), "/données/home", "nfs"),
        (LOCAL + mount(b"/\xff\xfe", b"nfs"), b"/\xff\xfe/home".decode("utf-8", "surrogateescape"), "nfs"),
        (LOCAL + mount(b"/srv", b"fuse.sshfs", optional=b""), "/srv/x", "fuse.sshfs"),
        (b"", "/srv", ""),
        (b"nonsense\n\n - \n1 2 3\n", "/srv", ""),
    ],
)
def test_the_mount_that_holds_a_path_is_found(mounts: bytes, place: str, kind: str) -> None:
    assert kind_of(Path(place), mounts) == kind


@given(mounts=st.binary(max_size=200), place=st.text(max_size=30))
def test_no_content_of_the_table_raises(mounts: bytes, place: str) -> None:
    kind_of(Path("/" + place.replace("\0", "").encode("utf-8", "replace").decode()), mounts)


@given(
    name=st.binary(min_size=1, max_size=30).filter(
        lambda name: b"/" not in name and b"\0" not in name and name not in (b".", b"..")
    )
)
def test_any_name_of_a_mount_point_is_understood_as_the_kernel_writes_it(name: bytes) -> None:
    escaped = b"".join(b"\\%03o" % byte if byte in b" \t\n\\" else bytes([byte]) for byte in name)
    place = Path(b"/".decode() + name.decode("utf-8", "surrogateescape") + "/home")
    assert kind_of(place, LOCAL + mount(b"/" + escaped, b"nfs4")) == "nfs4"


def test_a_link_is_followed_to_what_really_holds_the_file(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/proc/self")
    assert kind_of((tmp_path / "link").resolve(), Path("/proc/self/mountinfo").read_bytes()) == "proc"
    assert network_filesystem(tmp_path / "missing" / "deeper") == ""


def test_what_we_say_of_real_places_is_what_stat_says(tmp_path: Path) -> None:
    mounts = Path("/proc/self/mountinfo").read_bytes()
    for place in (Path("/proc"), Path("/sys"), Path("/dev/shm")):
        if place.exists():
            ran = subprocess.run(["findmnt", "-n", "-o", "FSTYPE", "--target", place], capture_output=True, text=True, check=False)
            assert ran.returncode != 0 or kind_of(place, mounts) == ran.stdout.split()[-1]


def test_a_home_on_a_network_file_system_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The place that the test uses is declared to be of a network kind, by its real name."""
    here = kind_of(tmp_path.resolve(), Path("/proc/self/mountinfo").read_bytes())
    monkeypatch.setattr(filesystem, "_NETWORK", frozenset([here]))
    with pytest.raises(JournalUnavailable, match=f"lies on {here}, a network file system"):
        sqlite.create(tmp_path / "journal.sqlite3", "note")
    assert list(tmp_path.iterdir()) == []
