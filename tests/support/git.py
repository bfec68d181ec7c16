"""Small real git repositories."""

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

_IDENTITY = {
    "GIT_AUTHOR_NAME": "Ann Author",
    "GIT_AUTHOR_EMAIL": "ann@example.org",
    "GIT_COMMITTER_NAME": "Ann Author",
    "GIT_COMMITTER_EMAIL": "ann@example.org",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_CONFIG_NOSYSTEM": "1",
}


def git(folder: Path, *arguments: str) -> str:
    """What git prints for these arguments in `folder`; it must succeed."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    done = subprocess.run(["git", *arguments], cwd=folder, env=environment | _IDENTITY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


class Project:
    """A repository with a work tree at `top`."""

    def __init__(self, top: Path) -> None:
        self.top = top
        top.mkdir(parents=True)
        git(top, "init", "--quiet", "--initial-branch=main")

    def write(self, name: str, content: str | bytes) -> Path:
        """Put a file into the work tree."""
        path = self.top / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    def commit(self, files: Mapping[str, str | bytes]) -> str:
        """Write files, commit the whole work tree, and return the commit."""
        for name, content in files.items():
            self.write(name, content)
        return self.commit_all()

    def commit_all(self, message: str = "A change") -> str:
        """Commit everything in the work tree."""
        git(self.top, "add", "--all")
        git(self.top, "commit", "--quiet", "--allow-empty", "-m", message)
        return self.head()

    def head(self) -> str:
        """The commit that is checked out."""
        return git(self.top, "rev-parse", "HEAD").strip()

    def status(self) -> str:
        """What is not committed."""
        return git(self.top, "status", "--porcelain", "--untracked-files=all")
