"""What kind of file system a path lies on."""

from __future__ import annotations

import os
from pathlib import Path

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


def network_filesystem(path: Path) -> str:
    """
    The type name of the network file system that holds `path` (or its nearest existing parent); empty for a local one.

    Non-guarantee: FUSE file systems that hide a network behind a plain ``fuse`` are not recognised.
    """
    place = Path(os.path.realpath(path))
    while not place.exists() and place != place.parent:
        place = place.parent
    best, kind = "", ""
    try:
        lines = Path("/proc/self/mountinfo").read_text("utf-8", "surrogateescape").splitlines()
    except OSError:
        return ""
    for line in lines:
        before, _, after = line.partition(" - ")
        mounted = before.split(" ")[4].encode("utf-8", "surrogateescape").decode("unicode_escape")
        if (place == Path(mounted) or Path(mounted) in place.parents) and len(mounted) >= len(best):
            best, kind = mounted, after.split(" ", 1)[0]
    return kind if kind in _NETWORK else ""
