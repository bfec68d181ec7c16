"""
Rewriting in a process of its own.

The parser recurses natively: a script that is nested deeply enough ends the process that parses it. That must not be the host's.
"""

from __future__ import annotations

import base64
import json
import os
import sys
from collections.abc import Mapping

from remediation.context import RemediationContext
from remediation.errors import ProcessError
from remediation.runbooks._volatile_path import CanNotHeal, Rewritten

_LARGEST = 512 * 1024
_SECONDS = 60.0


async def rewrite_apart(ctx: RemediationContext, source: bytes, files: Mapping[str, str]) -> Rewritten:
    """
    Like `rewriting.rewrite`, in a child process.

    Raises:
        CanNotHeal: as there, or the child did not survive the script.

    """
    if len(source) > _LARGEST:
        raise CanNotHeal(f"the script has {len(source)} bytes, too many to be rewritten")
    asked = {"source": base64.b64encode(source).decode("ascii"), "files": dict(files)}
    try:
        done = await ctx.run(
            (sys.executable, "-P", "-m", "remediation.runbooks._volatile_path"),
            stdin=json.dumps(asked).encode(),
            env={"PYTHONPATH": os.pathsep.join(path for path in sys.path if path), "PYTHONIOENCODING": "utf-8"},
            timeout=_SECONDS,
        )
        answer = json.loads(done.stdout) if done.exit_code == 0 else {}
    except (ProcessError, ValueError) as error:
        raise CanNotHeal(f"the script could not be rewritten: {error}") from error
    if "reason" in answer:
        raise CanNotHeal(answer["reason"])
    if "source" not in answer:
        raise CanNotHeal(f"the script could not be parsed: the parser ended with exit code {done.exit_code}")
    return Rewritten(base64.b64decode(answer["source"]), tuple(answer["lines"]), tuple(answer["unused"]))
