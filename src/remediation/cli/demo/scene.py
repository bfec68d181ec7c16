"""The scene: a small site with a job that reads a template under /tmp, and a database with a backup."""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from remediation.errors import ConfigurationError

ROWS = 6000
JOB = "build-pages"
TEMPLATE = """<!doctype html>
<title>{title}</title>
<h1>{title}</h1>
<p>Built by a scheduled job.</p>
"""
SCRIPT = '''"""Builds the site's front page; runs every few seconds."""

import sys

TEMPLATE = "{template}"


def main() -> int:
    with open(TEMPLATE, encoding="utf-8") as file:  # deployed there by hand, long ago
        page = file.read().format(title="Orders")
    with open("index.html", "w", encoding="utf-8") as out:
        out.write(page)
    return 0


if __name__ == "__main__":
    sys.exit(main())
'''
SETTINGS = """# Made by `remediation demo`.
[host]
id = "{host_id}"

[gate]
profile = "autonomous"

[effects]
roots = ["{site}", "{data}"]

[keys]
dir = "{keys}"

[runbooks."sqlite-corruption"]
state = "live"

[runbooks."volatile-path"]
state = "live"

[[sentinels.sqlite]]
path = "{data}/orders.db"
every = "1s"
backups = ["{data}/backups/orders-*.db"]

[[jobs]]
name = "{job}"
command = ["{python}", "build.py"]
cwd = "{site}"
every = "2s"
"""


@dataclass(frozen=True, slots=True)
class Scene:
    """Where things are."""

    folder: Path
    home: Path
    site: Path
    data: Path
    volatile: Path
    """Under the system's folder for temporary files; cleaned away in the first act."""

    @property
    def template(self) -> Path:
        """What the job reads."""
        return self.volatile / "page.html"

    @property
    def database(self) -> Path:
        """The database with the orders."""
        return self.data / "orders.db"

    @property
    def page(self) -> Path:
        """What the job writes."""
        return self.site / "index.html"

    def remove(self) -> None:
        """Remove all of it."""
        for place in (self.volatile, self.home, self.folder):
            shutil.rmtree(place, ignore_errors=True)


def build(home: Path | None) -> Scene:
    """
    Make the scene.

    Args:
        home: Where the host's home is to be; in the scratch folder by default. It must not exist, or be empty.

    Raises:
        ConfigurationError: the home is not empty, or git is missing.

    """
    if home is not None and home.exists() and (not home.is_dir() or any(home.iterdir())):
        raise ConfigurationError(
            f"{home} is not empty; the demo wants a home of its own: name a folder that is empty or does not exist"
        )
    if shutil.which("git") is None:
        raise ConfigurationError("the demo heals a job in a git repository, and there is no git on PATH: install it")
    folder = Path(tempfile.mkdtemp(prefix="remediation-demo-"))
    # A demo kept in a volatile place would be the very mistake that its first act heals; the job's template has to be in one.
    volatile = Path(tempfile.mkdtemp(prefix="site-templates-", dir="/tmp"))
    scene = Scene(folder, home or folder / "home", folder / "site", folder / "data", volatile)
    _make_site(scene)
    _make_database(scene)
    return scene


def settings(scene: Scene) -> str:
    """The text of the host's ``remediation.toml``."""
    return SETTINGS.format(
        host_id="demo",
        site=scene.site,
        data=scene.data,
        keys=scene.folder / "keys",
        job=JOB,
        python=sys.executable,
    )


def _make_site(scene: Scene) -> None:
    scene.site.mkdir()
    git = ["git", "-C", str(scene.site)]
    environment = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}

    def commit(message: str) -> None:
        for command in (["add", "-A"], ["commit", "--quiet", "-m", message]):
            subprocess.run([*git, *command], check=True, env=environment)

    subprocess.run(["git", "init", "--quiet", "--initial-branch=main", str(scene.site)], check=True, env=environment)
    for name, value in (("user.name", "Ada Demo"), ("user.email", "ada@example.org")):
        subprocess.run([*git, "config", name, value], check=True, env=environment)
    (scene.site / ".gitignore").write_text("index.html\n", "utf-8")
    (scene.site / "page.html").write_text(TEMPLATE, "utf-8")
    commit("Add the page template")
    (scene.site / "page.html").unlink()
    (scene.site / "build.py").write_text(SCRIPT.format(template=scene.template), "utf-8")
    commit("Read the template from where the deploy puts it")
    scene.template.write_text(TEMPLATE, "utf-8")


def _make_database(scene: Scene) -> None:
    (scene.data / "backups").mkdir(parents=True)
    connection = sqlite3.connect(scene.database)
    connection.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY, customer TEXT NOT NULL, cents INTEGER NOT NULL)")
    connection.execute("CREATE INDEX orders_by_customer ON orders (customer)")
    chance = random.Random(7)  # noqa: S311 - sample data
    rows = ((f"customer {chance.randrange(500):03}", chance.randrange(100, 90_000)) for _ in range(ROWS))
    connection.executemany("INSERT INTO orders (customer, cents) VALUES (?, ?)", rows)
    connection.commit()
    backup = sqlite3.connect(scene.data / "backups" / "orders-nightly.db")
    connection.backup(backup)
    backup.close()
    connection.close()


def damage(database: Path) -> int:
    """
    Overwrite the beginning of the index's first page with noise; returns the page's number (from 1).

    The table itself stays whole, so that nothing is lost for good: a heal that loses rows would ask a person first.
    """
    connection = sqlite3.connect(f"file:{database}?mode=ro", uri=True)
    try:
        (size,) = connection.execute("PRAGMA page_size").fetchone()
        (number,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'orders_by_customer'").fetchone()
    finally:
        connection.close()
    with database.open("r+b") as file:
        file.seek((number - 1) * size)
        file.write(random.Random(number).randbytes(64))  # noqa: S311 - noise
    return int(number)


def rows(database: Path) -> int:
    """How many orders there are."""
    connection = sqlite3.connect(f"file:{database}?mode=ro", uri=True)
    try:
        (number,) = connection.execute("SELECT count(*) FROM orders").fetchone()
    finally:
        connection.close()
    return int(number)
