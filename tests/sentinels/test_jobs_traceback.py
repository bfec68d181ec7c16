"""Tracebacks as Python prints them, and what is read out of them."""

import subprocess
import sys
import time
import traceback
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remediation.sentinels._jobs.traceback import KEPT_FRAMES, named_path, parse


def printed(script: str, folder: Path) -> str:
    """What Python prints to standard error when it runs `script`."""
    (folder / "script.py").write_text(script)
    ran = subprocess.run([sys.executable, "script.py"], cwd=folder, capture_output=True, text=True, check=False)
    assert ran.returncode != 0
    return ran.stderr


def test_a_missing_file_is_named_with_the_place_that_asked_for_it(tmp_path: Path) -> None:
    found = parse(printed("def load(path):\n    return open(path)\n\nload('/nowhere/page.html')\n", tmp_path))
    assert found is not None
    assert (found.exception, found.errno, found.path) == ("FileNotFoundError", 2, "/nowhere/page.html")
    assert [(Path(frame.file).name, frame.line, frame.function) for frame in found.frames] == [
        ("script.py", 4, "<module>"),
        ("script.py", 2, "load"),
    ]
    assert found.frames[1].source == "return open(path)"
    assert not found.chained
    assert not found.group


def test_of_chained_exceptions_the_last_one_counts(tmp_path: Path) -> None:
    script = "try:\n    open('/nowhere')\nexcept OSError as error:\n    raise ValueError('no template') from error\n"
    found = parse(printed(script, tmp_path))
    assert found is not None
    assert (found.exception, found.message, found.chained, found.path) == ("ValueError", "no template", True, None)


def test_an_exception_while_another_is_handled_is_chained_too(tmp_path: Path) -> None:
    found = parse(printed("try:\n    1 / 0\nexcept ZeroDivisionError:\n    open('/nowhere')\n", tmp_path))
    assert found is not None
    assert (found.exception, found.path, found.chained) == ("FileNotFoundError", "/nowhere", True)


def test_a_group_is_read_as_the_group_and_not_as_one_of_its_parts(tmp_path: Path) -> None:
    script = "def part():\n    open('/nowhere')\ntry:\n    part()\nexcept OSError as error:\n    raise ExceptionGroup('all', [error, ValueError('x')])\n"
    found = parse(printed(script, tmp_path))
    assert found is not None
    assert (found.exception, found.message, found.group) == ("ExceptionGroup", "all (2 sub-exceptions)", True)
    assert found.path is None
    assert [frame.line for frame in found.frames] == [6]


def test_a_plain_exception_that_a_group_caused_is_read_as_itself(tmp_path: Path) -> None:
    script = (
        "try:\n    raise ExceptionGroup('all', [ValueError('x')])\nexcept ExceptionGroup as g:\n    raise KeyError('k') from g\n"
    )
    found = parse(printed(script, tmp_path))
    assert found is not None
    assert (found.exception, found.message, found.group) == ("KeyError", "'k'", False)


def test_a_syntax_error_of_the_script_has_no_header_and_is_read_all_the_same(tmp_path: Path) -> None:
    found = parse(printed("x = 1\ny = (\n", tmp_path))
    assert found is not None
    assert found.exception == "SyntaxError"
    assert [(Path(frame.file).name, frame.line, frame.source) for frame in found.frames] == [("script.py", 2, "y = (")]


def test_a_syntax_error_of_an_import_names_the_imported_file(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("if True:\nx = 1\n")
    found = parse(printed("import broken\n", tmp_path))
    assert found is not None
    assert found.exception == "IndentationError"
    assert [Path(frame.file).name for frame in found.frames] == ["script.py", "broken.py"]


def test_deep_recursion_keeps_the_innermost_frames(tmp_path: Path) -> None:
    script = "def f(n):\n    return g(n)\ndef g(n):\n    return f(n - 1) if n else open('/nowhere')\nf(200)\n"
    found = parse(printed(script, tmp_path))
    assert found is not None
    assert len(found.frames) == KEPT_FRAMES
    assert found.path == "/nowhere"
    assert found.frames[-1].function == "g"


def test_repeated_frames_are_no_obstacle(tmp_path: Path) -> None:
    found = parse(printed("def f(n):\n    return f(n - 1) if n else open('/nowhere')\nf(50)\n", tmp_path))
    assert found is not None
    assert found.path == "/nowhere"


def test_carriage_returns_and_colours_are_looked_through(tmp_path: Path) -> None:
    text = printed("def f():\n    open('/nowhere')\nf()\n", tmp_path)
    plain = parse(text)
    assert parse(text.replace("\n", "\r\n")) == plain
    assert (
        parse(text.replace("FileNotFoundError", "\x1b[1;35mFileNotFoundError\x1b[0m").replace('File "', '\x1b[35mFile "')) == plain
    )


def test_what_is_printed_before_and_after_does_not_count(tmp_path: Path) -> None:
    text = printed("open('/nowhere')\n", tmp_path)
    found = parse(f"starting\nTraceback (most recent call last): is what Python prints\n{text}\nException ignored in: x\ndone\n")
    assert found is not None
    assert found.path == "/nowhere"
    assert found.message.endswith("'/nowhere'")


def test_a_quoted_traceback_in_a_cause_is_not_taken_for_the_last_one(tmp_path: Path) -> None:
    script = (
        "import concurrent.futures as f\nif __name__ == '__main__':\n"
        "    with f.ProcessPoolExecutor(1) as pool:\n        pool.submit(open, '/nowhere').result()\n"
    )
    text = printed(script, tmp_path)
    assert text.count("Traceback (most recent call last):") == 2
    found = parse(text)
    assert found is not None
    assert (found.exception, found.path, found.chained) == ("FileNotFoundError", "/nowhere", True)
    assert found.frames[0].file.endswith("script.py")


def test_the_class_of_another_module_is_named_with_it(tmp_path: Path) -> None:
    found = parse(printed("import json\njson.loads('{')\n", tmp_path))
    assert found is not None
    assert found.exception == "json.decoder.JSONDecodeError"


@pytest.mark.parametrize(
    ("message", "path"),
    [
        ("[Errno 2] No such file or directory: '/tmp/a b'", "/tmp/a b"),
        ('[Errno 2] No such file or directory: "/tmp/it\'s"', "/tmp/it's"),
        ("[Errno 2] No such file or directory: '/tmp/\\u2028\\n\\'x'", "/tmp/\u2028\n'x"),
        ("[Errno 2] No such file or directory: '/a' -> '/b'", "/a"),
        ("[Errno 2] No such file or directory: PosixPath('/tmp/p')", "/tmp/p"),
        ("[Errno 2] No such file or directory: b'/tmp/bytes'", None),
        ("[Errno 2] No such file or directory: 7", None),
        ("[Errno 2] No such file or directory: '/tmp/open", None),
        ("[Errno 2] No such file or directory", None),
        ("[Errno 2] No such file or directory: ''", None),
        ("[Errno 2] No such file or directory: __import__('os').getcwd()", None),
        ("template '/tmp/x' is missing", None),
        ("", None),
    ],
)
def test_a_path_is_read_only_where_python_puts_it(message: str, path: str | None) -> None:
    assert named_path(message) == path


@pytest.mark.parametrize(
    "text",
    [
        "",
        "all fine\n",
        "Traceback (most recent call last):\n",
        "Traceback (most recent call last):\nTraceback (most recent call last):\n",
        'Traceback (most recent call last):\n  File "x", line 1, in f\n    code\n',
        "Traceback (most recent call last):\n… [1234 bytes cut]\n",
        "  + Exception Group Traceback (most recent call last):\n  | \n",
        "SyntaxError: not one\n",
    ],
)
def test_what_is_no_whole_traceback_is_none(text: str) -> None:
    assert parse(text) is None


_WORDS = st.text(st.characters(codec="utf-8", exclude_characters="\n\r\x1b"), max_size=60)
_PATHS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=80)


def _raise(depth: int, error: BaseException) -> None:
    if depth:
        _raise(depth - 1, error)
    raise error


@given(depth=st.integers(0, 90), path=_PATHS, noise=_WORDS, newline=st.sampled_from(["\n", "\r\n"]))
def test_every_real_traceback_of_a_missing_file_is_read_back(depth: int, path: str, noise: str, newline: str) -> None:
    try:
        _raise(depth, FileNotFoundError(2, "No such file or directory", path))
    except FileNotFoundError as error:
        lines = "".join(traceback.format_exception(error))
        last = traceback.extract_tb(error.__traceback__)[-1]
    found = parse((noise + "\n" + lines).replace("\n", newline))
    assert found is not None
    assert (found.exception, found.path) == ("FileNotFoundError", path)
    assert (found.frames[-1].file, found.frames[-1].line, found.frames[-1].function) == (last.filename, last.lineno, last.name)


@given(message=_WORDS, cause=_WORDS, depth=st.integers(0, 4))
def test_every_real_chain_ends_with_its_last_exception(message: str, cause: str, depth: int) -> None:
    try:
        try:
            _raise(depth, OSError(cause))
        except OSError as error:
            raise RuntimeError(message) from error
    except RuntimeError as error:
        lines = "".join(traceback.format_exception(error))
    found = parse(lines)
    assert found is not None
    assert (found.exception, found.chained) == ("RuntimeError", True)
    assert found.message == message


@given(
    st.text(alphabet=st.sampled_from(list('Traceback (most recent call last):\n File "x", line 1, in f:|+-\r\x1b[m')), max_size=400)
)
def test_no_text_makes_it_raise(text: str) -> None:
    parse(text)
    parse("Traceback (most recent call last):\n" + text)
    named_path("[Errno 2] " + text)


HEADER = "Traceback (most recent call last):\n"


@pytest.mark.parametrize(
    "piece",
    [
        HEADER,
        f"x{HEADER}",
        HEADER.strip(),
        f"{HEADER}  \n",
        "  + Exception Group " + HEADER,
        '  File "a", line 1, in f\n    x\n',
        '", line 1' * 40,
        "\x1b[1;31",
        "SyntaxError: x\n",
        "    | ",
        "\n",
        "'\\",
    ],
)
@pytest.mark.parametrize("lead", ["", HEADER, HEADER + '  File "x", line 1, in f\n', "FileNotFoundError: [Errno 2] x: '"])
def test_hostile_text_takes_no_longer_than_reading_it(piece: str, lead: str) -> None:
    text = lead + piece * (1_000_000 // len(piece))
    begin = time.process_time()
    parse(text)
    # Less than a second; what is quadratic takes many minutes.
    assert time.process_time() - begin < 10


def test_ten_megabytes_are_read_in_seconds(tmp_path: Path) -> None:
    text = "some output\n" * 800_000 + printed("open('/nowhere')\n", tmp_path) + "more output\n" * 10
    begin = time.process_time()
    found = parse(text)
    assert time.process_time() - begin < 5
    assert found is not None
    assert found.path == "/nowhere"
