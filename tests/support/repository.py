"""The repository as the tests about it see it."""

import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "src" / "remediation"


def files() -> list[Path]:
    """Every file that is tracked, or would be by `git add`: what is ignored or deleted is not among them."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    paths = {ROOT / name for name in listed.stdout.decode().split("\0") if name}
    return sorted(path for path in paths if path.is_file())


def documents() -> list[Path]:
    """The pages whose examples and links are checked: README.md, CONTRIBUTING.md and everything under docs/."""
    return [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


def name(path: Path) -> str:
    """The path as a person would type it at the root of the repository; also the id of a parametrised test."""
    return path.relative_to(ROOT).as_posix()
