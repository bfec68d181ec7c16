"""``init``: make a home."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated

import typer

from remediation.cli import output
from remediation.cli.options import HomeOption, JsonOption
from remediation.cli.passphrases import ask_at_the_terminal
from remediation.settings.home import Home

if TYPE_CHECKING:
    from remediation.settings import Settings


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("init")(init)


def init(
    *,
    host_id: Annotated[
        str | None,
        typer.Option(
            "--id", metavar="ID", help="The host's id. Default: the machine's name and a random part.", show_default=False
        ),
    ] = None,
    encrypt_key: Annotated[
        bool,
        typer.Option("--encrypt-key", help="Keep the signing key under a passphrase: see [keys] passphrase; else asked for."),
    ] = False,
    home: HomeOption = None,
    json: JsonOption = False,
) -> None:
    """
    Make a home: settings, signing key, an empty journal.

    The settings, remediation.toml, hold every key with its default in comments.

    The signing key and head.note lie outside the home, under $XDG_STATE_HOME/remediation (by default ~/.local/state), unless
    remediation.toml says otherwise. A remediation.toml that is there already is used as it is. Doing it again changes nothing, and
    finishes what was left half done.

    \b
    Examples:
      remediation init
      remediation --home /var/lib/remediation init --id atlas-1
      remediation init --encrypt-key
    """
    from remediation.bootstrap import initialise, initialised
    from remediation.bootstrap.belonging import refuse_keys_of_another_home
    from remediation.settings import Settings

    place = Home.locate(home)
    try:
        settings, text = _settings(place, host_id)
    except PermissionError:
        place.make()  # says what can't be looked into
        raise
    # Before anything is made: what is refused leaves nothing behind.
    refuse_keys_of_another_home(settings.home)
    place.make()
    if text:
        _write_once(place.config, text)
        settings = Settings.of(place)
    known = initialised(settings.home)
    if encrypt_key and not known:
        ask_at_the_terminal(twice=True)
    origin = initialise(settings, encrypt=encrypt_key)
    vkey = settings.home.verifier_keys.read_text("utf-8").strip()
    file = settings.base / place.config.name
    if json:
        paths = {"home": str(place.root), "keys": str(settings.home.keys), "settings": str(file)}
        output.say_json({"made": not known, "host": settings.host.id, "origin": origin, "vkey": vkey, **paths})
        return
    output.say_facts({"home": place.root, "settings": file, "keys": settings.home.keys, "journal": origin, "public key": vkey})
    if known:
        output.note("This was a home already; nothing was changed.")
    else:
        output.note("Keep the public key somewhere else: with it, anybody can verify the journal.")
        output.note("Next: edit the settings, then `remediation doctor` and `remediation run`.")


def _settings(place: Home, host_id: str | None) -> tuple[Settings, str]:
    """The settings of the home, and what is to be written into its file if there is none yet."""
    from remediation.settings import Settings, new_host_id, template

    beside = place.root.parent / place.config.name
    text = ""
    if not place.config.exists() and not (place.root.name == ".remediation" and beside.exists()):
        text = template(new_host_id() if host_id is None else host_id)
    settings = Settings.parse(text, place.config, home=place.root) if text else Settings.of(place)
    _agree(settings, host_id)
    return settings, text


def _agree(settings: Settings, host_id: str | None) -> None:
    if host_id is not None and settings.host.id != host_id:
        file = settings.base / "remediation.toml"
        output.fail(
            f"--id {host_id!r}: {file} names the host {settings.host.id}; edit it, or leave out --id", output.ExitCode.WRONG_USE
        )


def _write_once(path: os.PathLike[str], text: str) -> None:
    """Write a new file durably, whole or not at all."""
    temporary = f"{os.fspath(path)}.{os.getpid()}"
    with open(temporary, "x", encoding="utf-8", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.rename(temporary, path)
