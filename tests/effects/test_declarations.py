"""What the operator declared, what every host knows, and how values stand in the journal."""

import pluggy
import pytest
from hypothesis import given
from hypothesis import strategies as st

import remediation.effects as package
from remediation.effects import BUILTIN_KINDS, DeclaredDisposable
from remediation.hooks import PROJECT, Specification
from remediation.ports.effect import Effect, EffectKinds, Touches


@pytest.mark.parametrize(
    ("glob", "path", "covered"),
    [
        ("/a/**", "/a/b", True),
        ("/a/**", "/a/b/c", True),
        ("/a/**", "/a", False),
        ("/a/**", "/ab/c", False),
        ("/a/*", "/a/b", True),
        ("/a/*", "/a/b/c", False),
        ("/a/**/c", "/a/c", True),
        ("/a/**/c", "/a/b/b/c", True),
        ("/a/**/c", "/a/bc", False),
        ("/a/*.tmp", "/a/x.tmp", True),
        ("/a/*.tmp", "/a/x.tmp.keep", False),
        ("/a/?", "/a/b", True),
        ("/a/?", "/a//", False),
        ("/a/[bc]", "/a/c", True),
        ("/a/[!bc]", "/a/c", False),
        ("/a/[!b]x", "/a/x", False),
        ("/a[/]b", "/a/b", False),
        ("/a/b", "/a/b", True),
        ("/a/b.c", "/a/bxc", False),
        ("/a/**", "/a/../b", False),
        ("**", "relative", False),
        ("/a/**", "/a/new\nline", True),
        ("/a/x(y", "/a/x(y", True),
    ],
)
def test_globs_cover_whole_paths(glob: str, path: str, covered: bool) -> None:
    assert DeclaredDisposable(globs=[glob]).covers(Touches(destroys=(path,))) is covered


@given(st.text(alphabet="/ab*?[]!^\\-.", max_size=20), st.text(alphabet="/ab.", max_size=20))
def test_no_glob_is_an_error_and_none_climbs(glob: str, path: str) -> None:
    covered = DeclaredDisposable(globs=[glob]).covers(Touches(destroys=(path,)))
    assert not (covered and ".." in path.split("/"))


def test_everything_that_is_touched_must_be_declared() -> None:
    declared = DeclaredDisposable(units=["a"], argv_prefixes=[["make", "clean"], []], controls=["c"], globs=["/x/*"])
    covered = declared.covers
    assert not covered(Touches())
    assert not covered(Touches(paths=("/x/y",)))
    assert covered(Touches(destroys=("/x/y", "/x/z")))
    assert not covered(Touches(destroys=("/x/y", "/y/z")))
    assert covered(Touches(controls=("c",)))
    assert not covered(Touches(controls=("c", "d")))
    assert covered(Touches(argv=("make", "clean", "more")))
    assert not covered(Touches(argv=("make",)))
    assert not covered(Touches(argv=("anything",))), "an empty prefix declares nothing"
    assert covered(Touches(units=("a.service",)))
    assert covered(Touches(argv=("systemctl", "restart", "a"), units=("a.service",)))
    assert not covered(Touches(argv=("systemctl", "restart", "a", "b"), units=("a.service", "b.service")))
    assert covered(Touches(argv=("make", "clean"), destroys=("/x/y",), controls=("c",)))
    assert not covered(Touches(argv=("make", "clean"), destroys=("/y/y",)))
    assert not DeclaredDisposable().covers(Touches(units=("a.service",)))


def test_every_host_knows_the_builtin_kinds() -> None:
    manager = pluggy.PluginManager(PROJECT)
    manager.add_hookspecs(Specification)
    manager.register(package)
    manager.check_pending()
    (kinds,) = manager.hook.remediation_effects()
    assert tuple(kinds) == BUILTIN_KINDS
    known = EffectKinds(kinds)
    assert [kind.kind for kind in BUILTIN_KINDS] == [
        "file.write",
        "file.copy",
        "file.move",
        "file.delete",
        "command.run",
        "process.terminate",
        "git.commit",
        "host.call",
    ]
    assert all(kind.kind in known for kind in BUILTIN_KINDS)


@pytest.mark.parametrize("kind", BUILTIN_KINDS, ids=lambda kind: kind.__name__)
def test_a_kind_is_complete_and_documented(kind: type[Effect]) -> None:
    assert kind.__doc__
    assert kind.version == 1
    assert kind.prepared_type.__name__ != "Prepared"
    assert not kind.__abstractmethods__
