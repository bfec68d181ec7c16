"""`tests.support.crashing`, for the effects on SQLite databases."""

import os
import subprocess
import sys
from typing import Self

from tests.support import crashing
from tests.support.world import KINDS

from remediation.effects.sqlite.replace import ReplaceDatabase
from remediation.effects.sqlite.write_check import CheckDatabaseWrite

KINDS.add(ReplaceDatabase)
KINDS.add(CheckDatabaseWrite)


class Crasher(crashing.Crasher):
    """A server that knows these effects."""

    def __enter__(self) -> Self:
        self._server = subprocess.Popen(
            [sys.executable, "-m", "tests.support.sqlite_crashing"],
            cwd=crashing.ROOT,
            env=os.environ | {"PYTHONPATH": os.pathsep.join([str(crashing.ROOT / "src"), str(crashing.ROOT)])},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        return self


if __name__ == "__main__":
    crashing.main()
