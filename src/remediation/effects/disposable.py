"""What the operator declared re-creatable: the one way in which an effect that destroys something needs no undo."""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence

from remediation.effects.units import unit_name
from remediation.ports.effect import Touches


class DeclaredDisposable:
    """
    The declarations of ``[effects.disposable]``.

    Args:
        units: systemd units whose processes may be stopped and restarted.
        argv_prefixes: Commands that may be run without an undo. An argv is covered if it *begins* with one of these, element by
            element: whatever follows is covered too.
        controls: Names of host controls.
        globs: Absolute path patterns. ``*`` and ``?`` stay inside one path component, ``**`` spans any number of them:
            ``/a/**`` covers everything below ``/a``, not ``/a`` itself.

    """

    def __init__(
        self,
        units: Sequence[str] = (),
        argv_prefixes: Sequence[Sequence[str]] = (),
        controls: Sequence[str] = (),
        globs: Sequence[str] = (),
    ) -> None:
        self.units = frozenset(unit_name(unit) for unit in units)
        self.argv_prefixes = tuple(tuple(prefix) for prefix in argv_prefixes if prefix)
        self.controls = frozenset(controls)
        self.globs = tuple(globs)

    def covers(self, touches: Touches) -> bool:
        """
        Whether everything that `touches` destroys, runs or calls was declared.

        A command is covered by its argv or, if the effect knows exactly which units the command acts on, by all of these. What
        destroys, runs and calls nothing was not declared either: the answer is no.
        """
        if not (touches.destroys or touches.argv or touches.units or touches.controls):
            return False
        acts = bool(touches.argv or touches.units)
        return (
            all(self._path(path) for path in touches.destroys)
            and all(name in self.controls for name in touches.controls)
            and (not acts or self._argv(touches.argv) or self._units(touches.units))
        )

    def _path(self, path: str) -> bool:
        if not path.startswith("/") or ".." in path.split("/"):
            return False
        return any(_pattern(glob).fullmatch(path) for glob in self.globs)

    def _argv(self, argv: Sequence[str]) -> bool:
        return bool(argv) and any(tuple(argv[: len(prefix)]) == prefix for prefix in self.argv_prefixes)

    def _units(self, units: Sequence[str]) -> bool:
        return bool(units) and self.units.issuperset(unit_name(unit) for unit in units)


@functools.lru_cache(maxsize=256)
def _pattern(glob: str) -> re.Pattern[str]:
    """`glob` as a regular expression over whole paths."""
    parts = []
    position = 0
    while position < len(glob):
        rest = glob[position:]
        if rest.startswith("**/") and (position == 0 or glob[position - 1] == "/"):
            parts.append("(?:[^/]+/)*")
            position += 3
        elif rest == "**" and glob.endswith("/**"):
            parts.append(".+")
            position += 2
        elif glob[position] == "*":
            parts.append("[^/]*")
            position += 1
        elif glob[position] == "?":
            parts.append("[^/]")
            position += 1
        elif (bracket := re.match(r"\[([!^]?)([^\]/]+)\]", rest)) is not None:
            inside = bracket[2].replace("\\", "\\\\").replace("[", "\\[")
            parts.append(f"(?!/)[{'^' if bracket[1] else ''}{inside}]")
            position += bracket.end()
        else:
            parts.append(re.escape(glob[position]))
            position += 1
    return re.compile("".join(parts), re.DOTALL)
