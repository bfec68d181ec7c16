"""
An anchor in a git repository: a ref whose commits hold the newest head of each log.

Plumbing only: objects are written, and the ref is moved from exactly the commit that was seen (``update-ref`` with the old value), so
its history grows and is never rewritten. No working tree, index or hook is touched. With a remote, the ref is pushed there without
force: the remote refuses what is no fast-forward, and it, not the local repository, is what is read back.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from remediation.coordination.processes import run_process
from remediation.errors import ProcessError
from remediation.model.text import printable
from remediation.ports.anchor import AnchorError
from remediation.ports.effect import Completed
from remediation.proof.anchored import head_of
from remediation.proof.checkpoint import Checkpoint

REF = "refs/remediation/heads"
READ_CAP = 2000
"""Commits that are read back, the newest ones."""
_SETTINGS = (
    "core.hooksPath=/dev/null",
    "core.fsync=all",
    "core.logAllRefUpdates=true",
    "gc.auto=0",
    "maintenance.auto=false",
    "i18n.commitEncoding=UTF-8",
    "protocol.ext.allow=never",
)
_ENVIRONMENT = {
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_NO_REPLACE_OBJECTS": "1",
    "GIT_LITERAL_PATHSPECS": "1",
    "GIT_AUTHOR_NAME": "remediation",
    "GIT_AUTHOR_EMAIL": "remediation@localhost",
    "GIT_COMMITTER_NAME": "remediation",
    "GIT_COMMITTER_EMAIL": "remediation@localhost",
    "LC_ALL": "C.UTF-8",
}


class GitAnchor:
    """
    Keeps heads in commits of `ref` in `repository` (a working tree or a bare repository).

    A commit's tree holds one file for each log, named after it, with its newest head. Non-guarantee: whoever may write to the repository
    may delete the ref; protect it there, or push to a remote that refuses deletion (``receive.denyDeletes``).
    """

    def __init__(
        self,
        repository: Path,
        *,
        ref: str = REF,
        remote: str = "",
        name: str = "",
        every: float = 60.0,
        timeout: float = 30.0,
    ) -> None:
        self.name = name or f"git:{repository}" + (f" ({remote})" if remote else "")
        self.every = every
        self.timeout = timeout
        self._repository = repository
        self._ref = ref
        self._remote = remote

    async def keep(self, note: str) -> None:
        """
        Commit `note`, and push it if there is a remote.

        Raises:
            AnchorError: git refused, or what is there contradicts it.
            ProcessError: git could not be started, or took too long.

        """
        head = head_of(note)
        if head is None:
            raise AnchorError(f"{self.name}: what it was given is no signed head")
        tip = await self._value(self._ref)
        kept = await self._notes([tip], _file_of(head.origin), 1) if tip else []
        last = head_of(kept[-1]) if kept else None
        if last is not None and last.size == head.size and last.root != head.root:
            raise AnchorError(f"{self.name} keeps another head over {head.size} entries: the journal was rewritten")
        if last is None or last.size < head.size:
            commit = await self._commit(note, head, tip)
            await self._ask("update-ref", "-m", f"{head.size} entries", self._ref, commit, tip or "0" * len(commit))
        if self._remote:
            await self._ask("push", "--quiet", "--no-verify", self._remote, f"{self._ref}:{self._ref}")

    async def heads(self) -> Sequence[str]:
        """
        The heads in the history of the ref: of the remote's, if there is one. Objects may be fetched for that, no ref is changed.

        Raises:
            AnchorError, ProcessError: it can't be read, or the remote does not answer.

        """
        tip = await self._remote_tip() if self._remote else await self._value(self._ref)
        if not tip:
            return []
        names = (await self._ask("ls-tree", "-z", "--name-only", tip)).split("\0")
        return [note for name in names if name.endswith(".note") for note in await self._notes([tip], name, READ_CAP)]

    async def _commit(self, note: str, head: Checkpoint, parent: str) -> str:
        blob = (await self._ask("hash-object", "-w", "--stdin", stdin=note)).strip()
        file = _file_of(head.origin)
        entries = (await self._ask("ls-tree", "-z", parent)).split("\0") if parent else []
        lines = [line for line in entries if line and line.partition("\t")[2] != file]
        tree = (await self._ask("mktree", "-z", stdin="\0".join([*lines, f"100644 blob {blob}\t{file}", ""]))).strip()
        parents = ["-p", parent] if parent else []
        return (await self._ask("commit-tree", tree, *parents, stdin=f"{head.origin}: {head.size} entries\n")).strip()

    async def _remote_tip(self) -> str:
        tip = (await self._ask("ls-remote", "--quiet", self._remote, self._ref)).partition("\t")[0].strip()
        if tip and (await self._run("cat-file", "-e", f"{tip}^{{commit}}")).exit_code != 0:
            # It knows more than the repository here: that must be seen, and nothing here be moved for it.
            fetch = ("fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--no-auto-maintenance", "--refmap=")
            await self._ask(*fetch, self._remote, self._ref)
        return tip

    async def _notes(self, tips: Sequence[str], file: str, most: int) -> list[str]:
        """The versions of a log's file in the history, oldest first."""
        listed = await self._ask("rev-list", f"--max-count={most}", *tips, "--", file)
        commits = listed.split()[::-1]
        if not commits:
            return []
        wanted = "".join(f"{commit}:{file}\n" for commit in commits)
        return _contents(await self._ask("cat-file", "--batch=%(objectsize)", stdin=wanted))

    async def _value(self, ref: str) -> str:
        done = await self._run("rev-parse", "--quiet", "--verify", "--end-of-options", f"{ref}^{{commit}}")
        if done.exit_code not in (0, 1):
            raise self._failed("rev-parse", done)
        return done.stdout.strip() if done.exit_code == 0 else ""

    async def _ask(self, *words: str, stdin: str | None = None) -> str:
        done = await self._run(*words, stdin=stdin)
        if done.exit_code != 0:
            raise self._failed(words[0], done)
        return done.stdout

    async def _run(self, *words: str, stdin: str | None = None) -> Completed:
        folder = self._repository
        if not folder.is_dir():
            raise AnchorError(f"{self.name}: there is no repository {folder}")
        directory = folder / ".git" if os.path.lexists(folder / ".git") else folder
        settings = [word for setting in _SETTINGS for word in ("-c", setting)]
        try:
            return await run_process(
                ["git", "--no-pager", f"--git-dir={directory}", *settings, *words],
                timeout=self.timeout,
                cwd=folder,
                env=_ENVIRONMENT,
                stdin=None if stdin is None else stdin.encode(),
            )
        except ProcessError as error:
            raise AnchorError(f"{self.name}: {error}") from error

    def _failed(self, what: str, done: Completed) -> AnchorError:
        said = printable(" ".join((done.stderr or done.stdout)[-400:].split()))
        return AnchorError(f"{self.name}: git {what} failed: {said or f'exit status {done.exit_code}'}")


def _file_of(origin: str) -> str:
    """The name of a log's file; an origin holds no plus sign."""
    return f"{origin.replace('/', '+')}.note"


def _contents(batch: str) -> list[str]:
    """The contents in the answer of ``cat-file --batch=%(objectsize)``: a line with the size, the content, a newline, and so on."""
    data, found = batch.encode(), []
    while data:
        line, _, data = data.partition(b"\n")
        if not line.isdigit():
            continue  # a file that is missing there
        size = int(line)
        found.append(data[:size].decode("utf-8", "replace"))
        data = data[size + 1 :]
    return found
