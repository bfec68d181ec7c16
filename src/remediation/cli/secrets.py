"""``secrets``: the credentials that runbooks declare. Values come from standard input, a prompt or a file; never from arguments."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from remediation.cli import output
from remediation.cli.options import HomeOption, JsonOption, existing_home
from remediation.cli.passphrases import ask_at_the_terminal

if TYPE_CHECKING:
    from remediation.keys.vault import RemediationKeyVault
    from remediation.settings import Home

_MOST = 64 * 1024 + 3
"""Bytes that are read: a value, its line end, and one more that shows it is too long."""


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(rich_markup_mode=None, no_args_is_help=True)
    group.callback()(_group)
    # Further words are taken, to be refused without being repeated: they may be the value.
    group.command("set", context_settings={"allow_extra_args": True, "ignore_unknown_options": True})(set_)
    group.command("list")(list_)
    group.command("rm")(remove)
    group.command("rotate")(rotate)
    app.add_typer(group, name="secrets")


def _group(home: HomeOption = None) -> None:
    """
    The credentials that runbooks declare: set, list, remove, exchange their key.

    They are encrypted in the folder of the home's keys, under a key of their own. A runbook reads only what it declares, each use is
    journaled by name, and no value is ever shown.
    """


def set_(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="Letters, digits, '_', '.' and '-'; at most 64.", show_default=False)],
    *,
    from_file: Annotated[
        str | None, typer.Option("--from-file", metavar="FILE", help="Read the value from this file.", show_default=False)
    ] = None,
    from_fd: Annotated[
        int | None, typer.Option("--from-fd", metavar="N", help="Read it from this inherited descriptor.", show_default=False)
    ] = None,
    home: HomeOption = None,
    json: JsonOption = False,
) -> None:
    """
    Store a value, in the place of what was there.

    It is read from standard input; at a terminal, it is asked for without being shown. There is no way to pass it as an argument:
    other users would see it in the process list, and the shell would keep it. A line end after a value of one line is dropped.

    A running host uses the new value from the next use on.

    \b
    Examples:
      remediation secrets set registry-token
      pass show registry | remediation secrets set registry-token
      remediation secrets set deploy-key --from-file ~/.ssh/deploy
    """
    from remediation.keys.vault_file import check_name

    if context.args:
        output.fail(
            "a value is never passed as an argument, where the process list and the shell's history show it; if you just typed one, "
            "change it where it is from. Give it on standard input, at the prompt, or with --from-file",
            output.ExitCode.WRONG_USE,
        )
    check_name(name)
    if from_file is not None and from_fd is not None:
        output.fail("--from-file and --from-fd: one of them", output.ExitCode.WRONG_USE)
    place, vault = _vault(home)
    from remediation.bootstrap.vault import wants_passphrase

    value = _value(name, from_file, from_fd)
    sealed = wants_passphrase(place)
    ask_at_the_terminal(twice=sealed and not vault.sealed)
    info = vault.set(name, value, sealed=sealed)
    if json:
        output.say_json({"name": info.name, "version": info.version, "set_at": info.set_at})
    else:
        output.say(f"{info.name}, version {info.version}")


def list_(home: HomeOption = None, json: JsonOption = False) -> None:
    """
    List names, versions, when each was set, and which runbooks declare it; never values.

    Runbooks are those that the journal knows.
    """
    place, vault = _vault(home)
    declared = _declared(place)
    stored = {info.name: info for info in vault.list()}
    names = [*stored, *(name for name in sorted(declared) if name not in stored)]
    found: list[dict[str, Any]] = [
        {
            "name": name,
            "version": stored[name].version if name in stored else None,
            "set_at": stored[name].set_at if name in stored else None,
            "declared_by": declared.get(name, []),
        }
        for name in names
    ]
    if json:
        output.say_json(found)
        return
    rows = [
        [item["name"], item["version"] or "-", item["set_at"] or "not in the vault", ", ".join(item["declared_by"])]
        for item in found
    ]
    output.say_table(
        ["name", "version", "set", "declared by"], rows, nothing="no secrets; `remediation secrets set NAME` stores one"
    )


def remove(
    name: Annotated[str, typer.Argument(show_default=False)],
    *,
    home: HomeOption = None,
    json: JsonOption = False,
) -> None:
    """
    Remove a secret.

    Copies of the vault's file that somebody has still hold it, and the vault's key opens them: exchange the key with `secrets rotate`,
    and the secret where it is from.
    """
    from remediation.keys.vault_file import check_name

    place, vault = _vault(home)
    vault.remove(check_name(name))
    users = _declared(place).get(name, [])
    if json:
        output.say_json({"name": name, "removed": True, "declared_by": users})
        return
    output.say(f"{name} removed")
    if users:
        output.note(
            f"{', '.join(users)} declared it: a host that has the runbook does not start until it is set again, and where one runs, "
            "the runbook fails at its next use."
        )


def rotate(
    *,
    adopt: Annotated[
        bool, typer.Option("--adopt", help="Take over the vault of this home's former log, after `journal recover`.")
    ] = False,
    passphrase: Annotated[
        bool | None,
        typer.Option(
            "--passphrase/--no-passphrase",
            help="Keep the new key under the keys' passphrase, or not. Default: as the signing key is kept.",
            show_default=False,
        ),
    ] = None,
    home: HomeOption = None,
    json: JsonOption = False,
) -> None:
    """
    Encrypt all secrets with a new key, and destroy the old one.

    Do it when somebody may have seen the key; the secrets themselves have to be changed where they are from then, too.
    """
    from remediation.bootstrap.vault import wants_passphrase

    place, vault = _vault(home)
    sealed = wants_passphrase(place) if passphrase is None else passphrase
    ask_at_the_terminal(twice=sealed and not vault.sealed)
    count = vault.rotate(sealed=sealed, adopt=adopt)
    if json:
        output.say_json({"secrets": count, "passphrase": vault.sealed})
    else:
        output.say(f"{count} secrets are encrypted with a new key" + (", kept under the passphrase" if vault.sealed else ""))


def _vault(option: str | None) -> tuple[Home, RemediationKeyVault]:
    from remediation.bootstrap.vault import open_vault
    from remediation.settings import Settings

    home = Settings.of(existing_home(option)).home
    ask_at_the_terminal()
    return home, open_vault(home)


def _declared(home: Home) -> dict[str, list[str]]:
    """Which runbooks declare which credentials, as far as the journal can say."""
    import sqlite3
    from json import loads

    from remediation.cli import reading
    from remediation.errors import RemediationError

    try:
        state = reading.run(reading.host_state(home))
    except (RemediationError, sqlite3.Error) as error:
        output.note(f"which runbooks declare them is not known: {error}")
        return {}
    found: dict[str, list[str]] = {}
    for id_, record in sorted(state.runbooks.items()):
        spec: dict[str, Any] = loads(record.spec) if record.spec else {}
        for name in spec.get("credentials", ()):
            found.setdefault(name, []).append(id_)
    return found


def _value(name: str, from_file: str | None, from_fd: int | None) -> str:
    if from_file is None and from_fd is None and sys.stdin.isatty():
        typed: str = typer.prompt(f"Value of {name} (not shown)", hide_input=True, confirmation_prompt="The same again", err=True)
        return typed
    try:
        if from_file is not None:
            with open(os.path.expanduser(from_file), "rb") as file:
                raw = file.read(_MOST)
        elif from_fd is not None:
            with open(from_fd, "rb", closefd=False) as file:
                raw = file.read(_MOST)
        else:
            raw = sys.stdin.buffer.read(_MOST)
    except (OSError, ValueError) as error:
        where = from_file if from_file is not None else "standard input" if from_fd is None else f"descriptor {from_fd}"
        output.fail(f"the value can't be read from {where}: {getattr(error, 'strerror', None) or error}", output.ExitCode.WRONG_USE)
    text = ""
    readable = True
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        readable = False
    if not readable:
        # Outside of the handler: the original holds the value.
        output.fail("the value is not UTF-8 text; encode binary secrets in base64", output.ExitCode.WRONG_USE)
    line = text.removesuffix("\n").removesuffix("\r")
    # A value of several lines, such as a key in PEM, is kept as it is.
    return text if "\n" in line else line
