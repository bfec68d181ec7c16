"""Paths are changed only below the allowed roots, and never through a link."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remediation.confinement import AllowedRoots, normal
from remediation.errors import OutsideRoots


@pytest.fixture
def root(tmp_path: Path) -> Path:
    made = tmp_path / "root"
    (made / "a" / "b").mkdir(parents=True)
    (made / "a" / "file").write_text("x")
    return made


@pytest.mark.parametrize("path", ["", ".", "a", "../x", "/a/../b", "/..", "a/b", "/a\0b"])
def test_a_path_that_is_relative_or_climbs_is_refused(path: str) -> None:
    with pytest.raises(OutsideRoots, match="absolute"):
        normal(path)


@pytest.mark.parametrize("path", ["/a/b", "//a/b", "///a//b/", "/a/./b/."])
def test_spellings_of_one_path_become_one(path: str) -> None:
    assert normal(path) == Path("/a/b")
    assert str(normal(path)) == "/a/b"


@given(st.lists(st.sampled_from(["a", "b", ".", "..", "", "~", "\udcff"]), max_size=8), st.booleans())
def test_what_is_normal_never_climbs(parts: list[str], absolute: bool) -> None:
    try:
        found = normal("/" * absolute + "/".join(parts))
    except OutsideRoots:
        return
    assert found.is_absolute()
    assert not {"..", ".", ""} & set(found.parts[1:])
    assert normal(found) == found


def test_a_path_in_a_root_is_allowed_whether_it_exists_or_not(root: Path) -> None:
    roots = AllowedRoots([root])
    assert roots.check(root / "a" / "file") == root / "a" / "file"
    assert roots.check(root / "new" / "deep") == root / "new" / "deep"


def test_a_path_beside_a_root_is_refused(root: Path) -> None:
    roots = AllowedRoots([root])
    with pytest.raises(OutsideRoots, match=r"\[effects\] roots"):
        roots.check(f"{root}-other/file")
    with pytest.raises(OutsideRoots):
        roots.check(root.parent)


def test_without_roots_nothing_is_allowed() -> None:
    with pytest.raises(OutsideRoots, match="none"):
        AllowedRoots([]).check("/tmp/x")


def test_the_home_and_the_keys_are_refused_though_a_root_holds_them(root: Path) -> None:
    home = root / "a" / "b"
    roots = AllowedRoots([root], excluded=[home])
    for path in (home, home / "journal.sqlite3"):
        with pytest.raises(OutsideRoots, match="home or keys"):
            roots.check(path)
        assert roots.barred(path)
    assert roots.check(root / "a" / "bb") == root / "a" / "bb"
    assert not roots.barred(root / "a" / "bb")


def test_the_home_is_recognised_through_a_link_when_it_is_to_be_read(root: Path, tmp_path: Path) -> None:
    roots = AllowedRoots([root], excluded=[root / "a" / "b"])
    (tmp_path / "alias").symlink_to(root / "a")
    assert roots.barred(tmp_path / "alias" / "b" / "key")


def test_a_link_as_the_last_component_is_refused(root: Path) -> None:
    (root / "link").symlink_to(root / "a" / "file")
    with pytest.raises(OutsideRoots, match="symbolic link"):
        AllowedRoots([root]).check(root / "link")


def test_a_link_on_the_way_is_refused(root: Path) -> None:
    (root / "link").symlink_to(root / "a")
    roots = AllowedRoots([root])
    with pytest.raises(OutsideRoots, match="symbolic link"):
        roots.check(root / "link" / "file")
    with pytest.raises(OutsideRoots), roots.open_parent(root / "link" / "file"):
        pass


def test_a_file_on_the_way_is_refused(root: Path) -> None:
    with pytest.raises(OutsideRoots, match="Not a directory"):
        AllowedRoots([root]).check(root / "a" / "file" / "x")


def test_a_root_that_is_spelled_through_a_link_is_resolved_once(root: Path, tmp_path: Path) -> None:
    (tmp_path / "current").symlink_to(root)
    roots = AllowedRoots([tmp_path / "current"])
    assert roots.check(tmp_path / "current" / "a" / "file") == root / "a" / "file"
    assert roots.check(root / "a" / "file") == root / "a" / "file"


def test_a_root_whose_link_was_switched_since_the_start_is_refused(root: Path, tmp_path: Path) -> None:
    (tmp_path / "current").symlink_to(root)
    roots = AllowedRoots([tmp_path / "current"])
    (tmp_path / "next").symlink_to(tmp_path)
    (tmp_path / "next").rename(tmp_path / "current")
    with pytest.raises(OutsideRoots, match="restart the host"):
        roots.check(tmp_path / "current" / "a" / "file")


def test_of_nested_roots_the_inner_spelling_wins(root: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (root / "data").symlink_to(elsewhere)
    for order in ([root, root / "data"], [root / "data", root]):
        assert AllowedRoots(order).check(root / "data" / "x") == elsewhere / "x"


def test_a_root_that_was_replaced_by_a_link_is_refused(root: Path, tmp_path: Path) -> None:
    roots = AllowedRoots([root])
    root.rename(tmp_path / "moved")
    root.symlink_to(tmp_path / "moved")
    with pytest.raises(OutsideRoots, match="symbolic link"):
        roots.check(root / "a" / "file")


def test_a_folder_above_the_root_that_was_replaced_by_a_link_is_not_walked_through(root: Path, tmp_path: Path) -> None:
    roots = AllowedRoots([root / "a"])
    root.rename(tmp_path / "moved")
    root.symlink_to(tmp_path / "moved")
    with pytest.raises(OutsideRoots, match="link or no directory"), roots.open_parent(root / "a" / "file"):
        pass


@pytest.mark.parametrize("which", ["a", "a/b"])
def test_a_link_put_in_the_way_between_the_check_and_the_walk_is_not_followed(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, which: str
) -> None:
    (tmp_path / "outside" / "b").mkdir(parents=True)
    roots = AllowedRoots([root])
    checked = AllowedRoots._checked

    def then_swapped(self: AllowedRoots, path: str | os.PathLike[str]) -> str:
        found = checked(self, path)
        (root / which).rename(tmp_path / "moved")
        (root / which).symlink_to(tmp_path / "outside" / which.removeprefix("a").strip("/"))
        return found

    monkeypatch.setattr(AllowedRoots, "_checked", then_swapped)
    with pytest.raises(OutsideRoots, match="link or no directory"), roots.open_parent(root / "a" / "b" / "file"):
        pass


def test_the_parent_is_opened_and_the_name_is_the_last_part(root: Path) -> None:
    with AllowedRoots([root]).open_parent(root / "a" / "file") as (parent, name):
        assert name == "file"
        assert os.path.samestat(os.fstat(parent), os.stat(root / "a"))
        os.fsync(parent)


def test_a_missing_parent_is_told_as_such(root: Path) -> None:
    with pytest.raises(FileNotFoundError), AllowedRoots([root]).open_parent(root / "new" / "file"):
        pass


def test_a_single_file_can_be_a_root(root: Path) -> None:
    roots = AllowedRoots([root / "a" / "file"])
    with roots.open_parent(root / "a" / "file") as (_, name):
        assert name == "file"
    with pytest.raises(OutsideRoots):
        roots.check(root / "a" / "other")


def test_the_root_folder_itself_can_be_a_root() -> None:
    roots = AllowedRoots([Path("/")], excluded=[Path("/proc")])
    assert roots.check("/etc") == Path("/etc")
    with roots.open_parent("/etc") as (parent, name):
        assert (name, os.path.samestat(os.fstat(parent), os.stat("/"))) == ("etc", True)
    with pytest.raises(OutsideRoots):
        roots.check("/proc/1")


def test_descriptors_are_closed_whatever_happens(root: Path) -> None:
    roots = AllowedRoots([root])
    (root / "link").symlink_to(root / "a")
    before = sorted(os.listdir("/proc/self/fd"))
    for path in (root / "a" / "file", root / "new" / "x", root / "link" / "x", root / "a" / "file" / "x"):
        try:
            with roots.open_parent(path):
                raise KeyError
        except (KeyError, OSError, OutsideRoots):
            pass
    assert sorted(os.listdir("/proc/self/fd")) == before


def test_names_that_are_not_utf8_can_be_checked_and_told(root: Path) -> None:
    odd = Path(os.fsdecode(b"/bad\xff\x1b[2J"))
    with pytest.raises(OutsideRoots) as refused:
        AllowedRoots([root]).check(odd)
    assert str(refused.value).isprintable()
    inside = Path(os.fsdecode(os.fsencode(root) + b"/\xff"))
    assert AllowedRoots([root]).check(inside) == inside
