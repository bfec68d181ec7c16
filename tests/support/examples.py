"""Runs the examples in Markdown pages, so that what the documentation shows is what happens.

The info string of a fenced block says what is to be done with it:

    ```python test              run as a script
    ```console test             run each line after `$ `; what is shown below it must match what it prints
    ```toml file=name.toml      written to that file, for the blocks that follow; any language
    ```console no-test: reason  not run, and why

A `python` or `console` block that says none of these is an error, and so is one that calls its language by another
name: an example that nobody runs is wrong before long.

One page is one story: its blocks run from top to bottom in one empty directory, with an empty home directory beside it
and the commands of this environment first on PATH. The lines of one console block share a shell; the next block starts
in the page's directory again. A command may go on over several lines: end a line with a backslash and start the next
with `> `. Each command must exit with 0; write `|| echo "exit $?"` to show another status.

In what a command prints, `...` stands for anything within a line, and a line of only `...` for any number of lines.
Where nothing is shown, anything may be printed.
"""

import os
import re
import secrets
import signal
import subprocess
import sys
import sysconfig
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from markdown_it import MarkdownIt

TIMEOUT = 120.0  # seconds for one block
RUNNABLE = ("python", "console")
OTHER_NAMES = {"py": "python", "python3": "python", "pycon": "python"} | dict.fromkeys(
    ("bash", "sh", "shell", "shell-session", "zsh"), "console"
)


class ExampleError(AssertionError):
    """An example that is not marked, or does not do what the page says; the message starts with `page:line`."""


@dataclass(frozen=True)
class Block:
    """One fenced block: where it stands, its info string after the language, and its text."""

    page: str
    line: int
    language: str
    mark: str
    text: str

    @property
    def where(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def file(self) -> str | None:
        """The file that the block is the content of, relative to the page's directory."""
        return self.mark.removeprefix("file=") if self.mark.startswith("file=") else None

    def check_mark(self) -> None:
        """Raise ExampleError unless the block says what is to be done with it."""
        if self.language in OTHER_NAMES:
            raise ExampleError(f"{self.where}: a block in {self.language!r} is not run. Call it {OTHER_NAMES[self.language]!r}")
        if self.file is not None and (Path(self.file).is_absolute() or ".." in Path(self.file).parts):
            raise ExampleError(f"{self.where}: {self.file!r} leaves the page's directory; name a file inside it")
        if self.language not in RUNNABLE or self.file or self.mark == "test":
            return
        if re.fullmatch(r"no-test: *\S.*", self.mark):
            return
        raise ExampleError(
            f"{self.where}: nothing says what to do with this {self.language} block. Write 'test', "
            f"'file=NAME' or 'no-test: the reason' after the language (found {self.mark!r})"
        )


@dataclass(frozen=True)
class Command:
    """A command of a console block, and what the page shows below it."""

    script: str
    shown: str


def blocks(page: str, markdown: str) -> list[Block]:
    """All fenced blocks of a page in order, those inside lists and quotes too."""
    found = []
    for token in MarkdownIt().parse(markdown):
        if token.type == "fence":
            language, _, mark = token.info.strip().partition(" ")
            line = token.map[0] + 1 if token.map else 0
            found.append(Block(page, line, language.lower(), mark.strip(), token.content))
    return found


def commands(block: Block) -> list[Command]:
    """The commands of a console block. Raises ExampleError for output that no command precedes."""
    found: list[tuple[list[str], list[str]]] = []
    for line in block.text.splitlines():
        if line.startswith("$ "):
            found.append(([line.removeprefix("$ ")], []))
        elif not found:
            raise ExampleError(f"{block.where}: {line!r} stands before any command; commands start with '$ '")
        elif line.startswith("> ") and not found[-1][1]:
            found[-1][0].append(line.removeprefix("> "))
        else:
            found[-1][1].append(line)
    if not found:
        raise ExampleError(f"{block.where}: a console block without a command; commands start with '$ '")
    return [Command("\n".join(script), "\n".join(shown).strip()) for script, shown in found]


def matches(shown: str, printed: str) -> bool:
    """Whether what was printed is what is shown, with `...` for anything. Space at line ends does not count."""
    pattern = ""
    for line in shown.strip().splitlines():
        if line.strip() == "...":
            pattern += r"(?:[^\n]*\n)*?"
        else:
            pattern += ".*?".join(re.escape(part) for part in line.rstrip().split("...")) + r"\n"
    lines = [line.rstrip() for line in printed.strip().splitlines()]
    return re.fullmatch(pattern, "".join(f"{line}\n" for line in lines)) is not None


def run_page(page: str, markdown: str, directory: Path, *, timeout: float = TIMEOUT, home: Path | None = None) -> int:
    """Check every block of a page, then run them in order; the number of those that ran. Stops at the first failure.

    `directory` is an empty one, `timeout` the seconds that one block may take, `home` the reader's home directory if it is not an empty
    one beside the page. What the examples left running is killed when the page ends.
    """
    found = blocks(page, markdown)
    for block in found:
        block.check_mark()
    ran = 0
    with _Page(directory, timeout, home) as story:
        for block in found:
            if block.file is not None:
                story.write(block)
            elif block.mark == "test" and block.language == "python":
                story.run_script(block)
                ran += 1
            elif block.mark == "test" and block.language == "console":
                story.run_console(block)
                ran += 1
    return ran


class _Page:
    """The directory in which a page's blocks run, and the processes that they started."""

    def __init__(self, directory: Path, timeout: float, home: Path | None) -> None:
        self.work = directory / "page"
        self.home = home or directory / "home"
        self._logs = directory / "logs"
        self._timeout = timeout
        self._started: list[subprocess.Popen[bytes]] = []
        for made in (self.work, self.home, self._logs):
            made.mkdir(parents=True, exist_ok=made == home)
        (self.home / ".gitconfig").write_text(
            "[user]\n\tname = Reader\n\temail = reader@example.org\n[init]\n\tdefaultBranch = main\n"
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._started:
            # Not reaped until now, so the number still names this group and no other.
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def write(self, block: Block) -> None:
        """Put the block's text where its `file=` says."""
        if block.language == "python":
            compile(block.text, block.where, "exec")
        path = self.work / str(block.file)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(block.text)

    def run_script(self, block: Block) -> None:
        """Run a Python block; its line numbers in a traceback are those of the page."""
        script = self.work / f".line-{block.line}.py"
        script.write_text("\n" * block.line + block.text)
        status, printed = self._run(block, [sys.executable, str(script)])
        if status != 0:
            raise ExampleError(f"{block.where}: the script exited with {status}\n{printed}")

    def run_console(self, block: Block) -> None:
        """Run a console block's commands in one shell, and compare what they print with what is shown."""
        listed = commands(block)
        mark = f"--{secrets.token_hex(8)}--"
        report = f"{{ status=$?; printf '\\n{mark} %d\\n' $status; [ $status -eq 0 ] || exit 0; }} 2>&1\n"
        script = self._logs / f"line-{block.line}.sh"
        script.write_text("".join(f"{command.script}\n{report}" for command in listed))
        _, printed = self._run(block, ["bash", str(script)])
        *ended, rest = re.split(rf"\n{mark} (\d+)\n", printed)
        for command, text, status in zip(listed, ended[::2], ended[1::2], strict=False):
            said = f"{block.where}: `{command.script}`"
            if status != "0":
                raise ExampleError(f"{said} exited with {status}\n{text}")
            if command.shown and not matches(command.shown, text):
                raise ExampleError(f"{said} printed\n\n{text.strip()}\n\nwhere the page shows\n\n{command.shown}")
        if len(ended) < 2 * len(listed):
            script_line = listed[len(ended) // 2].script
            raise ExampleError(f"{block.where}: `{script_line}` left the shell that runs the block\n{rest}")

    def _run(self, block: Block, argv: list[str]) -> tuple[int, str]:
        log = self._logs / f"line-{block.line}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                argv,
                cwd=self.work,
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._started.append(process)
        deadline = time.monotonic() + self._timeout
        while (ended := os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)) is None:
            if time.monotonic() > deadline:
                raise ExampleError(f"{block.where}: still running after {self._timeout:g} s\n{log.read_text()}")
            time.sleep(0.01)
        status = ended.si_status if ended.si_code == os.CLD_EXITED else -ended.si_status
        return status, log.read_text(errors="replace")

    def _environment(self) -> dict[str, str]:
        kept = {name: os.environ[name] for name in ("PYTHONPATH", "TMPDIR") if name in os.environ}
        return kept | {
            "PATH": sysconfig.get_path("scripts") + os.pathsep + os.environ.get("PATH", os.defpath),
            "HOME": str(self.home),
            "LANG": "C.UTF-8",
            "TZ": "UTC",
            "NO_COLOR": "1",
            "COLUMNS": "120",
        }
