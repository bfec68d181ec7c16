"""
The built-in effects: what runbooks may have done to files, commands, processes, git repositories and the embedding host.

An effect kind keeps the promise it names, whatever happens between its steps. This package must not decide whether an effect is
allowed to run (the gate does), and nothing in it may act on the world outside of `apply` and `revert`.
"""

from collections.abc import Iterable
from typing import Any

from remediation.effects.call_host import CallHost
from remediation.effects.command import RunCommand
from remediation.effects.controls import HostControls
from remediation.effects.copy_file import CopyFile
from remediation.effects.delete_file import DeleteFile
from remediation.effects.disposable import DeclaredDisposable
from remediation.effects.git_commit import GitCommit
from remediation.effects.move_file import MoveFile
from remediation.effects.terminate import TerminateProcess
from remediation.effects.write_file import WriteFile
from remediation.hooks import hookimpl
from remediation.ports.effect import Effect

BUILTIN_KINDS: tuple[type[Effect[Any, Any]], ...] = (
    WriteFile,
    CopyFile,
    MoveFile,
    DeleteFile,
    RunCommand,
    TerminateProcess,
    GitCommit,
    CallHost,
)


@hookimpl
def remediation_effects() -> Iterable[type[Effect[Any, Any]]]:
    """The kinds that every host knows."""
    return BUILTIN_KINDS


__all__ = [
    "BUILTIN_KINDS",
    "CallHost",
    "CopyFile",
    "DeclaredDisposable",
    "DeleteFile",
    "GitCommit",
    "HostControls",
    "MoveFile",
    "RunCommand",
    "TerminateProcess",
    "WriteFile",
    "remediation_effects",
]
