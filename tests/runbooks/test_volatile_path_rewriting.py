"""Scripts are rewritten so that they find a file relative to themselves, and nothing else in them changes."""

import contextlib
import io
import os
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from remediation.runbooks._volatile_path import CanNotHeal, Rewritten
from remediation.runbooks._volatile_path.rewriting import rewrite

MISSING = "/tmp/site/page.html"
PLACE = "resources/page.html"
HERE = 'Path(__file__).resolve().parent / "resources" / "page.html"'


def rewritten(source: str, place: str = PLACE) -> Rewritten:
    return rewrite(source.encode(), {MISSING: place})


def changed(source: str, place: str = PLACE) -> str:
    return rewritten(source, place).source.decode()


def refused(source: str) -> str:
    """Why the script is not changed."""
    with pytest.raises(CanNotHeal) as caught:
        rewritten(source)
    return caught.value.reason


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('open("/tmp/site/page.html")', f"open(str({HERE}))"),
        ("TEMPLATE = '/tmp/site/page.html'", f"TEMPLATE = str({HERE})".replace('"', "'")),
        ("T: str = r'/tmp/site/page.html'", f"T: str = str({HERE})".replace('"', "'")),
        ('x = f"/tmp/site/page.html"', f"x = str({HERE})"),
        ('x = "/tmp/" "site/page.html"', f"x = str({HERE})"),
        ('x = "/tmp//site/./page.html"', f"x = str({HERE})"),
        ('x = Path("/tmp/site/page.html")', f"x = {HERE}"),
        ('x = Path("/tmp", "site", "page.html")', f"x = {HERE}"),
        ('x = Path("/tmp/site") / "page.html"', f"x = {HERE}"),
        ('x = Path("/tmp/site").joinpath("page.html")', f"x = {HERE}"),
        ('x = Path("/tmp/site/page.html").read_text()', f"x = ({HERE}).read_text()"),
        ('x = Path("/tmp/site/page.html").resolve()', f"x = ({HERE}).resolve()"),
        ('x = str(Path("/tmp/site/page.html"))', f"x = str({HERE})"),
        ('x = os.fspath("/tmp/site/page.html")', f"x = os.fspath(str({HERE}))"),
        ('x = os.path.join("/tmp/site", "page.html")', f"x = str({HERE})"),
        ('x = "/tmp/site" + "/page.html"', f"x = str({HERE})"),
        ('B = "/tmp/site"\nx = os.path.join(B, "page.html")', f'B = "/tmp/site"\nx = str({HERE})'),
        ('B = "/tmp/site"\nx = Path(B) / "page.html"', f'B = "/tmp/site"\nx = {HERE}'),
        ('B = Path("/tmp/site")\nx = B / "page.html"', f'B = Path("/tmp/site")\nx = {HERE}'),
        ('B = "/tmp/site"\nx = f"{B}/page.html"', f'B = "/tmp/site"\nx = str({HERE})'),
        ('T = "/tmp/site/page.html"\nx = Path(T)\ny = f"{T}"', f'T = str({HERE})\nx = Path(T)\ny = f"{{T}}"'),
        ('def f(path="/tmp/site/page.html"):\n    return open(path)', f"def f(path=str({HERE})):\n    return open(path)"),
        ('x = {"/tmp/site/page.html": 1}', f"x = {{str({HERE}): 1}}"),
        ('x = (  "/tmp/site/page.html"  )', f"x = (  str({HERE})  )"),
        ('x = not Path("/tmp/site/page.html")', f"x = not ({HERE})"),
        ('x = os.environ.get("T", "/tmp/site/page.html")', f'x = os.environ.get("T", str({HERE}))'),
        ('x=["/tmp/site/page.html","/tmp/other"] # c', f'x=[str({HERE}),"/tmp/other"] # c'),
    ],
)
def test_a_mention_is_replaced_by_an_expression_of_the_same_type(before: str, after: str) -> None:
    head = "import os\nfrom pathlib import Path\n\n"
    assert changed(f"{head}{before}\n") == f"{head}{after}\n"


def test_every_mention_is_replaced_and_told() -> None:
    source = 'from pathlib import Path\nopen("/tmp/site/page.html")\nprint(1)\nx = Path("/tmp/site/page.html")\n'
    result = rewritten(source)
    assert result.lines == (2, 4)
    assert b"/tmp/site" not in result.source


@pytest.mark.parametrize(
    ("source", "unused"),
    [
        ("import os\nB = '/tmp/site'\nx = open(os.path.join(B, 'page.html'))", ("os (line 1)", "B (line 2)")),
        ("A = '/tmp'\nB = A + '/site'\nx = open(B + '/page.html')", ("A (line 1)", "B (line 2)")),
        ("from pathlib import Path\nB = Path('/tmp/site')\nx = open(B / 'page.html')", ("B (line 2)",)),
        ("B = '/tmp/site'\nprint(B)\nx = open(B + '/page.html')", ()),
        ("B = '/tmp/site'\n__all__ = ['B']\nx = open(B + '/page.html')", ()),
        ("def f():\n    return B\nB = '/tmp/site'\nx = open(B + '/page.html')", ()),
        ("B = '/tmp/other'\nx = open('/tmp/site/page.html')", ()),
    ],
)
def test_what_only_the_old_expression_used_is_told_and_left(source: str, unused: tuple[str, ...]) -> None:
    result = rewritten(source)
    assert result.unused == unused
    assert all(line in result.source.decode() for line in source.splitlines() if line.startswith(("A =", "B =", "import")))


@pytest.mark.parametrize(
    ("line", "unknown"),
    [
        ("open(f'/tmp/site/{NAME}.html')", "NAME"),
        ("open(f'{base()}/page.html')", "base()"),
        ("open(os.path.join(BASE, sys.argv[1], 'page.html'))", "sys.argv[1]"),
        ("open(Path('/tmp') / folder.lower() / 'page.html')", "folder.lower()"),
        ("open('/tmp/site/' + NAME)", "NAME"),
    ],
)
def test_what_can_not_be_resolved_is_shown_with_its_line(line: str, unknown: str) -> None:
    reason = refused(f"import os, sys\nfrom pathlib import Path\nBASE = '/tmp'\n    \nif True:\n    {line}\n")
    assert f"line 6 holds a part of /tmp/site/page.html: {line}; what {unknown} stands for can't be told from the text" in reason


def test_several_files_are_replaced_at_once() -> None:
    result = rewrite(b'from pathlib import Path\na = "/tmp/a"\nb = Path("/tmp/b")\n', {"/tmp/a": "x/a", "/tmp/b": "../b"})
    assert result.source.decode().splitlines()[1:] == [
        'a = str(Path(__file__).resolve().parent / "x" / "a")',
        'b = Path(__file__).resolve().parent.parent / "b"',
    ]


@pytest.mark.parametrize(
    ("place", "expression"),
    [
        ("page.html", "Path(__file__).resolve().parent / 'page.html'"),
        ("../templates/page.html", "Path(__file__).resolve().parent.parent / 'templates' / 'page.html'"),
        ("../../page.html", "Path(__file__).resolve().parents[2] / 'page.html'"),
        ('r/it\'s "1".html', "Path(__file__).resolve().parent / 'r' / 'it\\'s \"1\".html'"),
        ("r/pägé\\.html", "Path(__file__).resolve().parent / 'r' / 'p\\xe4g\\xe9\\\\.html'"),
    ],
)
def test_the_place_may_be_anywhere_in_the_repository_and_have_any_name(place: str, expression: str) -> None:
    assert (
        changed("from pathlib import Path\nx = Path('/tmp/site/page.html')\n", place)
        == f"from pathlib import Path\nx = {expression}\n"
    )


@pytest.mark.parametrize(
    ("imports", "name"),
    [
        ("from pathlib import Path", "Path"),
        ("from pathlib import PurePath, Path as P", "P"),
        ("import pathlib", "pathlib.Path"),
        ("import os, pathlib as pl", "pl.Path"),
    ],
)
def test_an_import_that_is_there_is_used(imports: str, name: str) -> None:
    assert changed(f'{imports}\nx = "/tmp/site/page.html"\n') == (
        f'{imports}\nx = str({name}(__file__).resolve().parent / "resources" / "page.html")\n'
    )


@pytest.mark.parametrize(
    ("before", "head"),
    [
        ("", "from pathlib import Path\n\n"),
        ("#!/usr/bin/env python3\n# Builds.\n", "#!/usr/bin/env python3\n# Builds.\nfrom pathlib import Path\n\n"),
        ('"""Doc."""\n', '"""Doc."""\n\nfrom pathlib import Path\n\n'),
        ('"""Doc."""\n\n', '"""Doc."""\n\nfrom pathlib import Path\n\n'),
        (
            '"""Doc."""\n\nfrom __future__ import annotations\n\n',
            '"""Doc."""\n\nfrom __future__ import annotations\n\nfrom pathlib import Path\n\n',
        ),
        ("import os\nimport sys\n\n", "import os\nimport sys\nfrom pathlib import Path\n\n"),
        (
            "import os\nfrom json import loads\nfrom sys import argv\n",
            "import os\nfrom json import loads\nfrom pathlib import Path\nfrom sys import argv\n",
        ),
        ("from sys import argv\n\n", "from pathlib import Path\nfrom sys import argv\n\n"),
        ("import os\n\nimport jinja2\n\n", "import os\nfrom pathlib import Path\n\nimport jinja2\n\n"),
        (
            '"""Doc."""\nfrom __future__ import annotations\nimport os\n',
            '"""Doc."""\nfrom __future__ import annotations\nimport os\nfrom pathlib import Path\n\n',
        ),
        ("y = 1\nimport os\n", "from pathlib import Path\n\ny = 1\nimport os\n"),
        ("import os\r\n\r\n", "import os\r\nfrom pathlib import Path\r\n\r\n"),
    ],
)
def test_an_import_that_is_missing_is_added_once_in_its_place(before: str, head: str) -> None:
    source = f'{before}x = open("/tmp/site/page.html")\n'
    end = "\r\n" if "\r\n" in before else "\n"
    assert changed(source.replace('")\n', f'"){end}')) == f"{head}x = open(str({HERE})){end}"


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("from somewhere import Path\n", "_Path"),
        ("class Path: pass\n", "_Path"),
        ("def f(Path): pass\n", "_Path"),
        ("from pathlib import Path\nPath = str\n", "_Path"),
        ("from elsewhere import *\n", "_Path"),
        ("from pathlib import Path\nfrom elsewhere import *\n", "_Path"),
        ("if True:\n    from pathlib import Path\n", "_Path"),
        ("def f():\n    from pathlib import Path\n", "_Path"),
        ("_Path = Path = 1\n", "_PathlibPath"),
        ("import pathlib\npathlib = None\n", "Path"),
    ],
)
def test_a_name_that_means_something_else_is_not_used(source: str, name: str) -> None:
    result = changed(f'{source}x = "/tmp/site/page.html"\n')
    assert result.endswith(f'x = str({name}(__file__).resolve().parent / "resources" / "page.html")\n')
    assert result.count(f"from pathlib import Path as {name}\n" if name != "Path" else "from pathlib import Path\n") == 1


def test_an_import_after_the_mention_is_not_relied_on() -> None:
    result = changed('x = open("/tmp/site/page.html")\nfrom pathlib import Path\n')
    assert result.startswith("from pathlib import Path as _Path\n\nx = open(str(_Path(")


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("import sys\nx = open('/tmp/site/' + sys.argv[1])", "makes up the path at run time: line 2"),
        ("for name in ['page.html']:\n    open(f'/tmp/site/{name}')", "makes up the path at run time: line 2"),
        (
            "import tempfile, os\nx = open(os.path.join(tempfile.gettempdir(), 'site', 'page.html'))",
            "makes up the path at run time: line 2",
        ),
        ("B = '/tmp/site'\nB = '/srv'\nopen(B + '/page.html')", "makes up the path at run time"),
        ("print('hello')", "does not name /tmp/site/page.html"),
        ("# /tmp/site/page.html\n'''/tmp/site/page.html'''\n", "in a way that can't be changed"),
        ("x = open(b'/tmp/site/page.html')", "in a way that can't be changed"),
        (
            "import os\nos.system('cat /tmp/site/page.html')\nopen('/tmp/site/page.html')",
            "line 2 names /tmp/site/page.html inside another text",
        ),
        ("x = f'{open(\"/tmp/site/page.html\").read()}'", "inside an f-string"),
        ("x = '/tmp/site/page.html' + '.bak'", "makes another text out of the file's name"),
        ("match x:\n    case '/tmp/site/page.html': pass\n", "as a pattern"),
        ("x: 'Literal[\"/tmp/site/page.html\"]' = 1\n", "in a way that can't be changed"),
        ("x: Literal['/tmp/site/page.html'] = open('/tmp/site/page.html')\n", "in an annotation"),
        ("x = open(  # the page\n    '/tmp/site'  # folder\n    '/page.html'\n)", "has a comment inside"),
        ("def f():\n    return'/tmp/site/page.html'", "leaves no room"),
        ("x = (\n", "is not Python that can be parsed"),
        ("__file__ = 'x'\nopen('/tmp/site/page.html')", "another meaning to __file__"),
        ("def f(str):\n    return open('/tmp/site/page.html')", "another meaning to str"),
        ("# -*- coding: nonsense -*-\nopen('/tmp/site/page.html')", "encoding"),
        ("\x0cx = open('/tmp/site/page.html')", "without other changes"),
    ],
)
def test_what_can_not_be_changed_safely_is_refused_with_the_reason(source: str, reason: str) -> None:
    assert reason in refused(source)


@pytest.mark.parametrize(
    "writing",
    [
        "open(T, 'w')",
        "open(T, mode='a')",
        "open(file=T, mode='r+')",
        "open(T, sys.argv[1])",
        "open(T, *args)",
        "io.open(T, 'xb')",
        "Path(T).write_text('x')",
        "Path(T).open('w')",
        "Path(T).unlink()",
        "P = Path(T)\nP.touch()",
        "os.remove(T)",
        "os.replace('other', T)",
        "shutil.copy('other', T)",
        "shutil.copyfile('other', dst=T)",
        "shutil.move(T, 'other')",
        "def save(path):\n    with open(path, 'w') as f: f.write('x')\nsave(T)",
        "def save(data, path=T):\n    open(path, 'w')",
        "def save(path):\n    other = path\n    Path(other).write_bytes(b'')\nsave(path=T)",
        "class Page:\n    def __init__(self):\n        self.place = T\n    def save(self):\n        open(self.place, 'w')",
        "class Page:\n    def save(self, place):\n        open(place, 'w')\nPage().save(T)",
        "if (found := T): open(found, 'w')",
        "open(T if T else '/x', 'w')",
        "frame.to_csv(T)",
        "figure.savefig(T)",
        "np.save(T, x)",
        "json_dump(T)\ndef json_dump(p):\n    open(p, 'w')",
    ],
)
def test_a_script_that_changes_the_file_itself_is_refused(writing: str) -> None:
    source = f"import io, os, shutil, sys\nfrom pathlib import Path\nT = '/tmp/site/page.html'\nopen(T)\n{writing}\n"
    assert re.search(r"^line \d+ of the script also changes the file", refused(source))


@pytest.mark.parametrize(
    "reading",
    [
        "open(T)",
        "open(T, 'rb')",
        "open(T, mode='r', encoding='utf-8')",
        "Path(T).open()",
        "Path(T).read_text()",
        "open('/srv/out', 'w').write(open(T).read())",
        "shutil.copy(T, '/srv/out')",
        "def save(path):\n    open(path, 'w')\nsave('/srv/out')",
        "def load(path):\n    return open(path)\ndef save(path):\n    open(path, 'w')\nload(T)",
        "T.replace('a', 'b')",
        "os.makedirs('/tmp/site', exist_ok=True)",
    ],
)
def test_a_script_that_only_reads_the_file_is_changed(reading: str) -> None:
    source = f"import os, shutil\nfrom pathlib import Path\nT = '/tmp/site/page.html'\n{reading}\n"
    assert changed(source) == source.replace("'/tmp/site/page.html'", f"str({HERE})".replace('"', "'"))


@pytest.mark.parametrize(
    "source",
    [
        b'\xef\xbb\xbfx = open("/tmp/site/page.html")\r\ny = 1\r\n',
        b'# -*- coding: latin-1 -*-\nname = "\xe9"\nx = open("/tmp/site/page.html")',
        b'if 1:\n\tx = open("/tmp/site/page.html")   \n\n\n# end\n',
        b'x = open("/tmp/site/page.html") ; y = 1 ;\n',
    ],
)
def test_encoding_line_ends_and_odd_spacing_are_kept(source: bytes) -> None:
    result = rewrite(source, {MISSING: PLACE}).source
    line = re.search(rb"from pathlib import Path\r?\n(\r?\n)?", result)
    assert line is not None
    assert result.replace(line[0], b"").replace(f"str({HERE})".encode(), b'"/tmp/site/page.html"') == source


# -- properties over whole modules ------------------------------------------------------------------------------------------

_HEADS = st.sampled_from(["", "#!/usr/bin/env python3\n", "# -*- coding: utf-8 -*-\n# ünïcode\n", "\n\n# late\n"])
_DOCSTRINGS = st.sampled_from(["", '"""Doc."""\n', "'''Reads /tmp/site/page.html\n\nand more.'''\n\n", 'r"""x"""  # why\n'])
_FUTURES = st.sampled_from(["", "from __future__ import annotations\n", "from __future__ import annotations, division\n\n"])
_IMPORTS = st.lists(
    st.sampled_from(
        [
            "import os\n",
            "import sys, json\n",
            "from collections import (\n    OrderedDict,  # kept\n)\n",
            "\nimport random ; import re\n",
            "from pathlib import Path\n",
            "import pathlib\n",
            "import pathlib as pl\n",
            "from pathlib import Path as P\n",
            "try:\n    from pathlib import Path\nexcept ImportError:\n    Path = None\n",
        ]
    ),
    max_size=4,
    unique=True,
).map("".join)
_FILLER = st.lists(
    st.sampled_from(
        [
            "a = 1\n",
            "b   =  [ 1,2 ,\n  3]   # odd\n",
            "\n\n\n# a comment\n",
            "def f( x ,*, y = 2 ) :\n  return x+y\n",
            "class Path: pass\n",
            "class A:\n\n    text = 'naïve'\n",
            "if a_name_that_is_there := 1: pass\n",
            "s = '''\n\\n  '''\n",
            "lambda: (yield)\n",
            "with open(__file__) as own: pass\n",
        ]
    ),
    max_size=5,
).map("".join)
_READS = st.sampled_from(
    [
        'open("{0}/page.html").read()',
        "open( '{0}/page.html' ).read()",
        '__import__("pathlib").Path("{0}/page.html").read_text()',
        'open("{0}" "/page.html").read()',
        'open("{0}" + "/page.html").read()',
        "(lambda p='{0}/page.html': open(p).read())()",
        'open(os_path_join("{0}", "page.html")).read()',
        'open(f"{0}/page.html").read()',
        "next(open(p).read() for p in ['{0}/page.html'])",
        'open({{"x": "{0}/page.html"}}["x"]).read()',
    ]
)


@settings(max_examples=150, deadline=None)
@given(
    head=_HEADS,
    doc=_DOCSTRINGS,
    future=_FUTURES,
    imports=_IMPORTS,
    one=_FILLER,
    two=_FILLER,
    read=_READS,
    crlf=st.booleans(),
    last=st.booleans(),
)
def test_the_rewritten_module_reads_the_file_from_any_folder_and_is_otherwise_the_same(
    tmp_path_factory: pytest.TempPathFactory,
    head: str,
    doc: str,
    future: str,
    imports: str,
    one: str,
    two: str,
    read: str,
    crlf: bool,
    last: bool,
) -> None:
    folder = tmp_path_factory.mktemp("module")
    (folder / "resources").mkdir()
    (folder / "resources" / "page.html").write_text("the page")
    gone = f"{folder}/gone"
    before = head + doc + future + "from os.path import join as os_path_join\n" + imports + one + "found = "
    source = before + read.format(gone) + ("\n" + two if two or not last else "")
    if crlf:
        before, source = before.replace("\n", "\r\n"), source.replace("\n", "\r\n")
    result = rewrite(source.encode(), {f"{gone}/page.html": PLACE}).source.decode()

    # Line by line: what is not the mention stands as it stood; an import and one blank line may have come.
    after = source[len(before) + len(read.format(gone)) :]
    assert result.endswith(after)
    kept = result[: result.rindex("found = ") + len("found = ")]
    added = _added_lines(before.split("\n"), kept.split("\n"))
    assert [line.strip() for line in added if line.strip()] in (
        [],
        ["from pathlib import Path"],
        *([f"from pathlib import Path as {name}"] for name in ("_Path", "_PathlibPath")),
    )
    assert len(added) <= 2

    script = folder / "job.py"
    script.write_bytes(result.encode())
    assert _run(script, cwd=Path("/")) == "the page"


def _added_lines(old: list[str], new: list[str]) -> list[str]:
    """The lines of `new` that are not in `old`, if that is all that differs."""
    added = []
    position = 0
    for line in new:
        if position < len(old) and line == old[position]:
            position += 1
        else:
            added.append(line)
    assert position == len(old), "a line was changed or lost"
    return added


def _run(script: Path, cwd: Path) -> Any:
    """What the script found, run in this process from another folder."""
    names: dict[str, Any] = {"__file__": str(script), "__name__": "__main__"}
    back = os.getcwd()
    try:
        os.chdir(cwd)
        with contextlib.redirect_stdout(io.StringIO()):
            exec(compile(script.read_bytes(), str(script), "exec", dont_inherit=True), names)
    finally:
        os.chdir(back)
        sys.modules.pop("job", None)
    return names["found"]


@settings(max_examples=300)
@given(st.text(max_size=200), st.sampled_from(["x = '{}'\nopen('/tmp/site/page.html')\n", "{}\nopen('/tmp/site/page.html')\n"]))
def test_no_text_of_a_script_makes_it_raise_anything_else(text: str, around: str) -> None:
    with contextlib.suppress(CanNotHeal):
        rewrite(around.replace("{}", text).encode("utf-8", "surrogatepass"), {MISSING: PLACE})
