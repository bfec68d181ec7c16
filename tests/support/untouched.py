"""Everything that can be seen of a folder, to find out whether it was touched."""

import hashlib
import os
from pathlib import Path

Seen = dict[str, tuple[object, ...]]


def everything(folder: Path, *, leave_out: tuple[str, ...] = ()) -> Seen:
    """Mode, owner, size, time of change and content of all below `folder` (and of itself), but for names in `leave_out`."""
    seen: Seen = {}
    places = [folder]
    while places:
        path = places.pop()
        found = os.lstat(path)
        content: object = None
        if path.is_symlink():
            content = os.readlink(path)
        elif path.is_file():
            content = hashlib.sha256(path.read_bytes()).hexdigest()
        elif path.is_dir():
            content = sorted(entry.name for entry in path.iterdir() if entry.name not in leave_out)
            places += [path / name for name in content]
        seen[str(path.relative_to(folder))] = (found.st_mode, found.st_uid, found.st_size, found.st_mtime_ns, found.st_ino, content)
    return seen
