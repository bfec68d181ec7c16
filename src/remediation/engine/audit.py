"""
What Python itself tells of what code does (PEP 578, `sys.addaudithook`), as far as it is a step's doing.

An audit hook can't be taken away again, and hears of everything in the process. So there is one, put there by the first host that wants
it, and it looks at a context variable before anything else. It notes, and never refuses: an exception out of it would hit logging and
imports as well as runbooks.

Not seen: extension modules that call the kernel themselves, `ctypes`, and threads that were started without a copy of the context.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

from remediation.engine.conduct import STEP, Scope, children
from remediation.model.text import capped, printable

_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_HARMLESS = ("/dev/null", "/dev/tty", "/dev/stdout", "/dev/stderr")
_SHOWN = 200
_EXEMPT = frozenset({"logging", "logging.handlers"})
"""Modules that write on behalf of the whole process, whoever calls them."""
_installed = False


def install() -> None:
    """Begin to listen, in this process, until it ends; again changes nothing."""
    global _installed  # noqa: PLW0603 - as a hook can't be removed, whether there is one is a fact of the process
    if not _installed:
        _installed = True
        sys.addaudithook(_heard)


def _heard(event: str, args: tuple[Any, ...]) -> None:
    scope = STEP.get()
    if scope is None:
        return
    told = _EVENTS.get(event)
    if told is not None:
        with contextlib.suppress(Exception):
            told(scope, args)


def _opened(scope: Scope, args: tuple[Any, ...]) -> None:
    path, _, flags = args
    if scope.strict and isinstance(flags, int) and flags & _WRITES and not isinstance(path, int):
        _changed(scope, "opened for writing", path)


def _path(verb: str) -> Callable[[Scope, tuple[Any, ...]], None]:
    def told(scope: Scope, args: tuple[Any, ...]) -> None:
        if scope.strict and not isinstance(args[0], int):
            _changed(scope, verb, args[0])

    return told


def _renamed(scope: Scope, args: tuple[Any, ...]) -> None:
    if scope.strict:
        _changed(scope, "renamed", args[0])
        _changed(scope, "replaced", args[1])


def _linked(scope: Scope, args: tuple[Any, ...]) -> None:
    if scope.strict:
        _changed(scope, "made the link", args[1])


def _changed(scope: Scope, verb: str, path: Any) -> None:
    name = os.path.abspath(os.fsdecode(path))
    if name in _HARMLESS or name.startswith(scope.may_write) or "/__pycache__/" in name or _exempt():
        return
    scope.note(f"{verb} {_shown(name)}, outside an effect")


def _exempt() -> bool:
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001 - the documented way to the caller's frame
    while frame is not None:
        if frame.f_globals.get("__name__") in _EXEMPT:
            return True
        frame = frame.f_back
    return False


def _ran(scope: Scope, args: tuple[Any, ...]) -> None:
    _forked(scope, args)
    if scope.strict:
        what = args[0] if isinstance(args[0], str | bytes) else ""
        scope.note(f"started {_shown(os.fsdecode(what)) or 'a process'} itself, where ctx.run would have bounded it")


def _forked(scope: Scope, _: tuple[Any, ...]) -> None:
    if scope.before_fork is None:
        scope.before_fork = children()


def _signalled(scope: Scope, args: tuple[Any, ...]) -> None:
    pid, number = args
    if scope.strict and number and pid not in scope.children:
        with contextlib.suppress(ValueError):
            number = signal.Signals(number).name
        scope.note(f"sent {number} to {pid}, outside an effect")


def _moved(scope: Scope, _: tuple[Any, ...]) -> None:
    if scope.strict:
        scope.note("changed the working directory of the process; it was put back")
        if scope.folder is None:
            scope.folder = os.getcwd()


def _set(scope: Scope, args: tuple[Any, ...]) -> None:
    if scope.strict:
        name = args[0] if isinstance(args[0], bytes) else os.fsencode(args[0])
        scope.note(f"changed the environment variable {_shown(os.fsdecode(name))}; it was put back")
        scope.environment.setdefault(name, os.environb.get(name))


def _threaded(scope: Scope, args: tuple[Any, ...]) -> None:
    thread = getattr(args[0], "__self__", None)
    if isinstance(thread, threading.Thread):
        scope.started(thread)


def _shown(text: str) -> str:
    return capped(printable(text), _SHOWN)


_EVENTS: dict[str, Callable[[Scope, tuple[Any, ...]], None]] = {
    "open": _opened,
    "os.remove": _path("removed"),
    "os.rmdir": _path("removed"),
    "os.mkdir": _path("made the folder"),
    "os.truncate": _path("cut"),
    "os.chmod": _path("changed the mode of"),
    "os.chown": _path("changed the owner of"),
    "os.utime": _path("changed the times of"),
    "os.setxattr": _path("changed an attribute of"),
    "os.removexattr": _path("changed an attribute of"),
    "os.rename": _renamed,
    "os.link": _linked,
    "os.symlink": _linked,
    "os.kill": _signalled,
    "os.killpg": _signalled,
    "os.chdir": _moved,
    "os.putenv": _set,
    "os.unsetenv": _set,
    "os.fork": _forked,
    "os.forkpty": _forked,
    "os.posix_spawn": _ran,
    "os.system": _ran,
    "subprocess.Popen": _ran,
    "_thread.start_new_thread": _threaded,
    "_thread.start_joinable_thread": _threaded,
}
