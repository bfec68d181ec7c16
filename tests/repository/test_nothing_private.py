"""What is tracked belongs to everyone: no key, no machine's own paths, no address that packages were fetched from."""

import re

import pytest
from tests.support import repository

# Each pattern avoids matching itself: this file is checked too.
PRIVATE = {
    "a private key": r"-----BEGIN [A-Z ]*PRIVAT[E] KEY-----\s*[A-Za-z0-9+/=]{16}",
    "a path of one machine": r"(?<![\w.$}])/(?:wor[k]|tmp/ven[v]|tmp/tea[m]|opt/pyp[i]|opt/wheel[s]|root/[.]pyen[v])\b",
    "a folder of one machine": r"(?<!\w)[.]librar[y]\b",
    "an option that names a package index": r"(?<![\w-])--(?:index-ur[l]|extra-index-ur[l]|trusted-hos[t])\b",
    "the address of a package index": r"(?:://pypi[.]or[g]/simple|files[.]pythonhoste[d][.])",
}


@pytest.mark.parametrize("what", PRIVATE)
def test_no_file_holds(what: str) -> None:
    found = []
    for path in repository.files():
        text = path.read_bytes().decode(errors="replace")
        for match in re.finditer(PRIVATE[what], text):
            line = text.count("\n", 0, match.start()) + 1
            found.append(f"{repository.name(path)}:{line}: {match[0]!r}")
    assert not found, f"{what}:\n" + "\n".join(found)


@pytest.mark.parametrize(
    ("what", "text"),
    [
        ("a path of one machine", "see /" + "work/main"),
        ("a path of one machine", "python = '/" + "tmp/venv/bin/python'"),
        ("a folder of one machine", "." + "library/search"),
        ("an option that names a package index", "--extra-" + "index-url x"),
        ("the address of a package index", "https://" + "pypi.org/simple"),
        ("a private key", "-----BEGIN OPENSSH PRIVATE " + "KEY-----\nb3BlbnNzaC1rZXktdjEA"),
    ],
)
def test_the_patterns_find_what_they_are_for(what: str, text: str) -> None:
    assert re.search(PRIVATE[what], text)


@pytest.mark.parametrize("text", ["/srv/work/site", "$HOME/work/x", "--no-emit-index-url", "network/work", "a.library"])
def test_the_patterns_leave_ordinary_text_alone(text: str) -> None:
    assert not [what for what, pattern in PRIVATE.items() if re.search(pattern, text)]


def test_no_file_is_one_that_only_a_machine_needs() -> None:
    unwanted = re.compile(r"(^|/)(__pycache__|\.venv|\.remediation|node_modules)/|\.(pyc|sqlite3|swp|orig|rej|log)$")
    assert not [name for name in map(repository.name, repository.files()) if unwanted.search(name)]


def test_no_file_is_huge() -> None:
    assert not [repository.name(path) for path in repository.files() if path.stat().st_size > 512 * 1024]
