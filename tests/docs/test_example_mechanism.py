"""What runs the examples can fail: each way in which a page can be wrong is told, and where."""

import os
import time
from pathlib import Path

import psutil
import pytest
from tests.support.examples import ExampleError, blocks, matches, run_page


def page(*fenced: str) -> str:
    return "# A page\n\nwith words\n\n" + "\n\nmore words\n\n".join(fenced) + "\n"


def fence(info: str, *lines: str) -> str:
    return "\n".join([f"```{info}", *lines, "```"])


def test_a_page_without_examples_is_fine(tmp_path: Path) -> None:
    assert run_page("a.md", "# Words only\n\n```text\nnot run\n```\n", tmp_path) == 0


@pytest.mark.parametrize("info", ["python", "console", "python tests", "console no-test:", "python file="])
def test_a_block_that_does_not_say_what_to_do_with_it_is_refused(info: str, tmp_path: Path) -> None:
    with pytest.raises(ExampleError, match=r"^a\.md:5: .*Write 'test'"):
        run_page("a.md", page(fence(info, "$ true")), tmp_path)


@pytest.mark.parametrize("language", ["bash", "sh", "py", "pycon"])
def test_another_name_for_a_language_is_no_way_around(language: str, tmp_path: Path) -> None:
    with pytest.raises(ExampleError, match=rf"^a\.md:5: .*'{language}' is not run\. Call it '(python|console)'"):
        run_page("a.md", page(fence(language, "true")), tmp_path)


def test_blocks_in_lists_and_with_longer_fences_are_found_too() -> None:
    found = blocks("a.md", "1. step\n\n   ```console test\n   $ true\n   ```\n\n~~~~python test\npass\n~~~~\n")
    assert [(block.line, block.language, block.mark, block.text) for block in found] == [
        (3, "console", "test", "$ true\n"),
        (7, "python", "test", "pass\n"),
    ]


def test_an_untested_block_is_not_run(tmp_path: Path) -> None:
    ran = run_page("a.md", page(fence("console no-test: it deletes everything", "$ touch ran")), tmp_path)
    assert ran == 0
    assert not (tmp_path / "page" / "ran").exists()


def test_the_blocks_of_a_page_share_a_directory(tmp_path: Path) -> None:
    text = page(
        fence("python file=lib/greet.py", "HELLO = 'hello'"),
        fence("python test", "import sys", "sys.path.insert(0, 'lib')", "import greet", "open('out', 'w').write(greet.HELLO)"),
        fence("console test", "$ cat out", "hello"),
    )
    assert run_page("a.md", text, tmp_path) == 2


def test_a_script_that_raises_fails_with_the_line_of_the_page(tmp_path: Path) -> None:
    with pytest.raises(ExampleError, match=r"(?s)^a\.md:5: .*exited with 1.*line 7, in <module>.*ValueError: no"):
        run_page("a.md", page(fence("python test", "x = 1", "raise ValueError('no')")), tmp_path)


def test_a_file_that_is_not_python_fails(tmp_path: Path) -> None:
    with pytest.raises(SyntaxError):
        run_page("a.md", page(fence("python file=a.py", "def (")), tmp_path)


@pytest.mark.parametrize("name", ["../a.py", "/tmp/a.py", "a/../../b"])
def test_a_file_outside_the_directory_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(ExampleError, match="leaves the page's directory"):
        run_page("a.md", page(fence(f"python file={name}", "pass")), tmp_path)


def test_output_that_is_not_what_is_shown_fails_with_both(tmp_path: Path) -> None:
    with pytest.raises(ExampleError, match=r"(?s)^a\.md:5: `echo one` printed.*one.*the page shows.*two"):
        run_page("a.md", page(fence("console test", "$ echo one", "two")), tmp_path)


def test_output_of_which_nothing_is_shown_may_be_anything(tmp_path: Path) -> None:
    assert run_page("a.md", page(fence("console test", "$ echo one", "$ echo two", "two")), tmp_path) == 1


def test_what_is_printed_to_standard_error_counts_too(tmp_path: Path) -> None:
    with pytest.raises(ExampleError, match="printed"):
        run_page("a.md", page(fence("console test", "$ echo one; echo two >&2", "one")), tmp_path)


@pytest.mark.parametrize("command", ["false", "(exit 3)", "no-such-command", "echo ok | grep -q no"])
def test_a_command_that_fails_fails_the_page(command: str, tmp_path: Path) -> None:
    with pytest.raises(ExampleError, match="exited with"):
        run_page("a.md", page(fence("console test", f"$ {command}", "$ true")), tmp_path)


@pytest.mark.parametrize("command", ["exit 0", "exit 1", "kill -9 $$", "if true; then"])
def test_a_command_that_ends_the_shell_fails_the_page(command: str, tmp_path: Path) -> None:
    with pytest.raises(ExampleError, match="left the shell"):
        run_page("a.md", page(fence("console test", "$ true", f"$ {command}", "$ true")), tmp_path)


def test_the_commands_of_a_block_share_a_shell_and_blocks_do_not(tmp_path: Path) -> None:
    text = page(
        fence("console test", "$ mkdir sub && cd sub", "$ export WHO=me", '$ echo "$WHO in ${PWD##*/}"', "me in sub"),
        fence("console test", '$ echo "${WHO:-nobody} in ${PWD##*/}"', "nobody in page"),
    )
    assert run_page("a.md", text, tmp_path) == 2


def test_a_command_goes_on_over_several_lines(tmp_path: Path) -> None:
    text = page(fence("console test", "$ echo one \\", ">   two", "one two", "$ cat <<END", "> three", "> END", "three"))
    assert run_page("a.md", text, tmp_path) == 1


@pytest.mark.parametrize("lines", [["echo one"], [], ["output", "$ echo one"]])
def test_a_console_block_that_does_not_start_with_a_command_is_refused(lines: list[str], tmp_path: Path) -> None:
    with pytest.raises(ExampleError, match=r"^a\.md:5: .*commands start with"):
        run_page("a.md", page(fence("console test", *lines)), tmp_path)


@pytest.mark.parametrize("info", ["console test", "python test"])
def test_an_example_that_hangs_is_ended(info: str, tmp_path: Path) -> None:
    line = "$ echo $$; while :; do :; done" if info == "console test" else "while True: pass"
    with pytest.raises(ExampleError, match=r"still running after 0\.3 s"):
        run_page("a.md", page(fence(info, line)), tmp_path, timeout=0.3)


def test_what_an_example_leaves_running_serves_the_next_block_and_is_killed_with_the_page(tmp_path: Path) -> None:
    text = page(
        fence("console test", "$ sleep 600 & echo $! > pid"),
        fence("console test", "$ kill -0 $(cat pid)"),
    )
    assert run_page("a.md", text, tmp_path) == 2
    left = int((tmp_path / "page" / "pid").read_text())
    deadline = time.monotonic() + 10
    while psutil.pid_exists(left) and psutil.Process(left).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline, "it is still running"


def test_examples_see_an_empty_home_and_no_configuration_of_the_caller(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REMEDIATION_HOME", "/elsewhere")
    text = page(fence("console test", "$ ls ~", '$ echo "home=${REMEDIATION_HOME:-} ${HOME##*/}"', "home= home"))
    assert run_page("a.md", text, tmp_path) == 1
    assert os.environ["REMEDIATION_HOME"] == "/elsewhere"


@pytest.mark.parametrize(
    ("shown", "printed"),
    [
        ("one", "one\n"),
        ("one", "one  \n\n"),
        ("took ... ms", "took 12.5 ms"),
        ("...", ""),
        ("...", "one\ntwo"),
        ("...\ntwo", "zero\none\ntwo"),
        ("one\n...\nfour", "one\ntwo\nthree\nfour"),
        ("one\n...\ntwo", "one\ntwo"),
        ("a... b...", "abc bcd"),
        ("a (b) [c]* \\d", "a (b) [c]* \\d"),
    ],
)
def test_output_matches(shown: str, printed: str) -> None:
    assert matches(shown, printed)


@pytest.mark.parametrize(
    ("shown", "printed"),
    [
        ("one", ""),
        ("one", "one\ntwo"),
        ("took ... ms", "took 12\n ms"),
        ("...\ntwo", "one\ntwo\nthree"),
        ("one\n...\nfour", "one\ntwo\nthree"),
        ("a.c", "abc"),
        ("one\n\ntwo", "one\ntwo"),
    ],
)
def test_output_does_not_match(shown: str, printed: str) -> None:
    assert not matches(shown, printed)
