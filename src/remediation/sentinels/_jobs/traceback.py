"""
Reads Python tracebacks out of what a program printed.

The formats are those of CPython's `traceback` module, 3.8 to 3.13: frames with or without source and caret lines, repeated frames,
chained exceptions (the last one counts, it is the one that ended the program), exception groups (read as the group itself), and
syntax errors, which may stand without a header. Time and memory are linear in the text. Everything in the result is text that
anybody may have printed: it says what to look at, and proves nothing.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass

_HEADER = "Traceback (most recent call last):"
_GROUP = "  + Exception Group "
_FRAME = '  File "'
_MARGIN = "  | "
_CAUSES = (
    "The above exception was the direct cause of the following exception:",
    "During handling of the above exception, another exception occurred:",
)
_ANSI = re.compile(r"\x1b\[[0-9;:]*[A-Za-z]")
_TYPE = re.compile(r"[^\W\d]\w*(?:\.(?:[^\W\d]\w*|<locals>))*")
_SYNTAX = ("SyntaxError", "IndentationError", "TabError")
_ERRNO = re.compile(r"\[Errno (\d{1,6})\] ")
_LINE_CAP = 8192
KEPT_FRAMES = 64


@dataclass(frozen=True, slots=True)
class Frame:
    """One call in a traceback."""

    file: str
    line: int
    function: str
    """``<module>`` for module code; empty for the place of a syntax error."""
    source: str = ""


@dataclass(frozen=True, slots=True)
class Traceback:
    """The last exception in a text."""

    exception: str
    """The type's name, with its module unless that is `builtins` or `__main__`."""
    message: str
    """Its first line, and those that follow up to a blank line."""
    frames: tuple[Frame, ...]
    """Outermost first; of more than `KEPT_FRAMES`, the innermost."""
    chained: bool = False
    """Another exception was its cause or context."""
    group: bool = False

    @property
    def errno(self) -> int | None:
        """The error number of an OSError's message, if it has one."""
        match = _ERRNO.match(self.message)
        return int(match[1]) if match else None

    @property
    def path(self) -> str | None:
        """The (first) file name of an OSError's message; `None` if it has none, or one that is not text."""
        return named_path(self.message)


def parse(text: str) -> Traceback | None:
    """The last traceback in `text`, or `None` if there is none."""
    if "\x1b" in text:
        text = _ANSI.sub("", text)
    for start, prefix in _headers(text):
        if prefix == "":
            found = _read(_lines(text, start), "", chained=_follows_cause(text, start))
        elif prefix == _GROUP:
            found = _read(_lines(text, start), _MARGIN, chained=_follows_cause(text, start))
        else:
            continue  # inside a group, or in the middle of a sentence
        if found is not None:
            return found
    return _bare_syntax_error(text)


def named_path(message: str) -> str | None:
    """The file name in the message of an OSError, ``[Errno 2] No such file or directory: '/x'``; of two, the first."""
    match = _ERRNO.match(message)
    if match is None:
        return None
    start = message.find(": ", match.end())
    literal = message[start + 2 :].partition("\n")[0] if start >= 0 else ""
    if literal.startswith(("PosixPath(", "PurePosixPath(")):
        literal = literal.partition("(")[2]
    end = _literal_end(literal)
    if not end:
        return None
    try:
        value = ast.literal_eval(literal[:end])
    except (ValueError, SyntaxError, MemoryError):
        return None
    return value if isinstance(value, str) and value else None


def _literal_end(text: str) -> int:
    if not text or text[0] not in "'\"" or len(text) > _LINE_CAP:
        return 0
    position = 1
    while position < len(text):
        if text[position] == "\\":
            position += 2
        elif text[position] == text[0]:
            return position + 1
        else:
            position += 1
    return 0


def _headers(text: str) -> Iterator[tuple[int, str]]:
    """Each header from the last to the first: where the line after it starts, and what stands before it on its line."""
    end = len(text)
    while (at := text.rfind(_HEADER, 0, end)) >= 0:
        line = text.rfind("\n", max(0, at - 64), at) + 1
        if line == 0 and at > 64:
            line = at - 64  # a long line: whatever it is, no header
        after = at + len(_HEADER)
        if text[after : after + 1] in ("\n", "") or text[after : after + 2] == "\r\n":
            yield text.find("\n", after) + 1 or len(text), text[line:at]
        end = at


def _lines(text: str, start: int) -> Iterator[str]:
    while start < len(text):
        end = text.find("\n", start)
        end = len(text) if end < 0 else end
        yield text[start : min(end, start + _LINE_CAP)].removesuffix("\r")
        start = end + 1


def _follows_cause(text: str, start: int) -> bool:
    before = text[max(0, start - 512) : start].replace("\r\n", "\n").rstrip("\n").rpartition("\n")[0].rstrip("\n")
    return before.endswith(_CAUSES)


def _read(lines: Iterator[str], margin: str, *, chained: bool) -> Traceback | None:
    frames: list[Frame] = []
    bare = margin.rstrip()
    for raw in lines:
        if margin and raw.rstrip() == bare:
            line = ""
        elif raw.startswith(margin):
            line = raw[len(margin) :]
        else:
            return None
        if (frame := _frame(line)) is not None:
            frames.append(frame)
            if len(frames) > 2 * KEPT_FRAMES:
                del frames[:-KEPT_FRAMES]
        elif line.startswith("    ") and frames:
            if not frames[-1].source:
                last = frames[-1]
                frames[-1] = Frame(last.file, last.line, last.function, line.strip())
        elif line and not line[0].isspace():
            kind, message = _exception(line)
            if not kind:
                return None
            rest = "" if margin else _rest(lines)
            return Traceback(kind, message + rest, tuple(frames[-KEPT_FRAMES:]), chained, bool(margin))
        # What is left are repeat counts ("  [Previous line repeated 3 more times]"), blank source lines and notes on the way.
    return None


def _rest(lines: Iterator[str]) -> str:
    """The further lines of a message: until a blank line or a header, at most 32."""
    taken: list[str] = []
    for line in lines:
        if not line or line.startswith((_HEADER, _GROUP)) or len(taken) == 32:
            break
        taken.append(f"\n{line}")
    return "".join(taken)


def _frame(line: str) -> Frame | None:
    if not line.startswith(_FRAME):
        return None
    file, found, tail = line[len(_FRAME) :].rpartition('", line ')
    number, comma, function = tail.partition(", in ")
    if not found or not number.isdecimal() or not number.isascii() or len(number) > 9:
        return None
    return Frame(file, int(number), function if comma else "")


def _exception(line: str) -> tuple[str, str]:
    match = _TYPE.match(line)
    if match is None or line[match.end() : match.end() + 1] not in ("", ":"):
        return "", ""
    return match[0], line[match.end() + 1 :].removeprefix(" ")


def _bare_syntax_error(text: str) -> Traceback | None:
    """A syntax error of the program itself is printed without a header: its place, source, caret; the error is the last line."""
    end = len(text.rstrip())
    start = text.rfind("\n", 0, end) + 1
    kind, message = _exception(text[start:end][:_LINE_CAP])
    if kind not in _SYNTAX:
        return None
    before = text[max(0, start - 4 * _LINE_CAP) : start].replace("\r\n", "\n").split("\n")
    for index in range(len(before) - 1, -1, -1):
        if (frame := _frame(before[index])) is not None:
            source = before[index + 1].strip() if index + 1 < len(before) else ""
            return Traceback(kind, message, (Frame(frame.file, frame.line, "", source),))
    return None
