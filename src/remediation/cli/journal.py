"""``journal verify|export|prove|tail|recover``: the ledger itself."""

from __future__ import annotations

import typer

from remediation.cli.archive import archive
from remediation.cli.erase import erase
from remediation.cli.export import export
from remediation.cli.options import HomeOption
from remediation.cli.prove import prove
from remediation.cli.recover import recover
from remediation.cli.tail import tail
from remediation.cli.verify import verify


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
    group.callback()(_group)
    group.command("verify")(verify)
    group.command("export")(export)
    group.command("prove")(prove)
    group.command("tail")(tail)
    group.command("recover")(recover)
    group.command("erase")(erase)
    group.command("archive")(archive)
    app.add_typer(group, name="journal")


def _group(home: HomeOption = None) -> None:
    """The signed journal: verify, export, watch it."""
