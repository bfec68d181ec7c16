"""A folder in memory, for tests of crashes of processes: what a killed process handed to the kernel is not lost, so no disk is needed."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

MEMORY = Path("/dev/shm")


@contextlib.contextmanager
def in_memory(prefix: str) -> Iterator[Path]:
    """A new folder, gone at the end; on a disk where memory can't be written to."""
    folder = Path(tempfile.mkdtemp(prefix=f"{prefix}-", dir=MEMORY if os.access(MEMORY, os.W_OK) else None))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
