"""What kind of file system a path lies on."""

from __future__ import annotations

import os
import re
from pathlib import Path

from remediation.errors import JournalUnavailable

_NETWORK = frozenset(
    [
        "nfs",
        "nfs4",
        "cifs",
        "smb3",
        "smbfs",
        "9p",
        "afs",
        "ceph",
        "glusterfs",
        "fuse.glusterfs",
        "fuse.sshfs",
        "fuse.s3fs",
        "fuse.rclone",
        "ncpfs",
        "ocfs2",
        "gfs2",
        "lustre",
        "beegfs",
        "davfs",
    ]
)
_OCTAL = re.compile(rb"\\([0-3][0-7]{2})")


def network_filesystem(path: Path) -> str:
    """
    The type name of the network file system that holds `path` (or its nearest existing parent); empty for a local one.

    Non-guarantee: FUSE file systems that hide a network behind a plain ``fuse`` are not recognised.
    """
    place = Path(os.path.realpath(path))
    while not place.exists() and place != place.parent:
        place = place.parent
    try:
        mounts = Path("/proc/self/mountinfo").read_bytes()
    except OSError:
        return ""
    kind = kind_of(place, mounts)
    return kind if kind in _NETWORK else ""


def refuse_network_filesystem(path: Path) -> None:
    """Raise JournalUnavailable when `path` would lie on a network file system, where SQLite's locks and WAL can't be trusted."""
    kind = network_filesystem(path)
    if kind:
        raise JournalUnavailable(
            f"{path} lies on {kind}, a network file system; SQLite's WAL needs a local one. Choose a home on a local disk"
        )


def kind_of(place: Path, mounts: bytes) -> str:
    """
    The type name of the file system that holds `place`, an absolute path without links; empty when `mounts` doesn't say.

    Args:
        mounts: What ``/proc/self/mountinfo`` holds: see proc_pid_mountinfo(5). Later mounts hide earlier ones.

    """
    best, kind = b"", b""
    inside = os.fsencode(place)
    for line in mounts.split(b"\n"):
        before, _, after = line.partition(b" - ")
        fields = before.split(b" ")
        if len(fields) < 5:
            continue
        mounted = _OCTAL.sub(lambda match: bytes([int(match[1], 8)]), fields[4])
        if (inside == mounted or inside.startswith(mounted.rstrip(b"/") + b"/")) and len(mounted) >= len(best):
            best, kind = mounted, after.split(b" ", 1)[0]
    return os.fsdecode(kind)
