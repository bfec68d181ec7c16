"""``python -m remediation.runbooks._volatile_path``: rewrites one script, from JSON on standard input to JSON on standard output."""

from __future__ import annotations

import base64
import json
import sys

from remediation.runbooks._volatile_path import CanNotHeal
from remediation.runbooks._volatile_path.rewriting import rewrite


def main() -> None:
    """Answer one request."""
    asked = json.load(sys.stdin)
    try:
        done = rewrite(base64.b64decode(asked["source"]), asked["files"])
    except CanNotHeal as why:
        json.dump({"reason": why.reason}, sys.stdout)
    else:
        json.dump({"source": base64.b64encode(done.source).decode("ascii"), "lines": done.lines, "unused": done.unused}, sys.stdout)


if __name__ == "__main__":
    main()
