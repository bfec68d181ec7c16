"""``keys``: the signing keys of the journal, their public halves, and the passphrase of the one in use."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from remediation.cli import output
from remediation.cli.options import HomeOption, JsonOption, existing_home
from remediation.cli.passphrases import ask_at_the_terminal, new_passphrase

if TYPE_CHECKING:
    from remediation.bootstrap.keys import Rotated
    from remediation.proof import VerifierKey
    from remediation.settings import Home


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
    group.callback()(_group)
    group.command("list")(list_)
    group.command("rotate")(rotate)
    group.command("export")(export)
    group.command("passphrase")(passphrase)
    app.add_typer(group, name="keys")


def _group(home: HomeOption = None) -> None:
    """The keys that sign the journal: list, exchange, hand out."""


def list_(*, home: HomeOption = None, json: JsonOption = False) -> None:
    """
    List the log's signing keys, the first one first, and which sizes of the log each signs.

    Needs no private key. The fingerprint is the SHA-256 of the 32-byte public key.

    \b
    Examples:
      remediation keys list
      remediation keys list --json | jq -r '.[].vkey'
    """
    import asyncio

    found = asyncio.run(_epochs(_home(home)))
    if json:
        output.say_json(found)
        return
    rows = [[key["state"], key["from"], "" if key["to"] is None else key["to"], key["fingerprint"], key["vkey"]] for key in found]
    output.say_table(["state", "from", "to", "fingerprint", "public key"], rows, nothing="There are no keys.")


def rotate(
    *,
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why; it is journaled.")] = "",
    home: HomeOption = None,
    json: JsonOption = False,
) -> None:
    """
    Exchange the signing key for a new one.

    Hosts may run meanwhile: from their next entry on they sign with the new key. The journal keeps, signed by both keys, that the one
    follows the other, so whoever knows the first public key can verify what comes later. The old private key is destroyed last. A new
    key is kept as the old one was: under the same passphrase, in the same keyring. When it was interrupted, nothing is lost: the next
    start of a host, or this command, goes on.

    \b
    Examples:
      remediation keys rotate --reason "once a year"
      remediation keys rotate --reason "a backup was stolen" --json
    """
    import asyncio

    ask_at_the_terminal()
    done = asyncio.run(_rotated(_home(home), reason))
    if json:
        output.say_json({"seq": done.seq, "old": str(done.old), "new": str(done.new)})
        return
    output.say_facts({"entry": done.seq, "old public key": done.old, "new public key": done.new})
    output.note(
        "Verifiers that know the old public key can go on with it. After a theft, tell them the new one, and a head to start from."
    )


def export(
    *,
    pem: Annotated[bool, typer.Option("--pem", help="As PEM (SubjectPublicKeyInfo), for openssl.")] = False,
    every: Annotated[bool, typer.Option("--all", help="All keys that the log had, the first one first.")] = False,
    allowed_signers: Annotated[
        bool, typer.Option("--allowed-signers", help="Instead, the keys of the people who may approve, for ssh-keygen -Y verify.")
    ] = False,
    out: Annotated[
        str | None, typer.Option("--out", metavar="FILE", help="With --allowed-signers: write them to FILE.", show_default=False)
    ] = None,
    home: HomeOption = None,
) -> None:
    """
    Print the public key that signs now, to be kept elsewhere: with it anybody can verify the journal.

    \b
    Examples:
      remediation keys export > atlas.vkey
      remediation keys export --all
      remediation keys export --pem | openssl pkey -pubin -text -noout
      remediation keys export --allowed-signers --out allowed_signers
    """
    import asyncio

    from remediation.bootstrap.keys import read_epochs

    if allowed_signers:
        from remediation.cli.keys_signers import export_allowed_signers
        from remediation.settings import Settings

        if pem or every:
            output.fail("--allowed-signers has one form; leave out --pem and --all", output.ExitCode.WRONG_USE)
        export_allowed_signers(Settings.of(existing_home(home)), out)
        return
    if out is not None:
        output.fail("--out goes with --allowed-signers; a public key is one line: use `>`", output.ExitCode.WRONG_USE)
    keys = asyncio.run(read_epochs(_home(home))).keys
    for key in keys if every else keys[-1:]:
        output.say(_pem(key).rstrip("\n") if pem else str(key))


def passphrase(
    *,
    source: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="SOURCE",
            help="Where the new one comes from: env:NAME, fd:NUMBER, credential:NAME. Default: the terminal.",
            show_default=False,
        ),
    ] = None,
    remove: Annotated[bool, typer.Option("--remove", help="Keep the key without a passphrase.")] = False,
    home: HomeOption = None,
) -> None:
    """
    Keep the key file under a passphrase, under another one, or (--remove) under none.

    The present one is taken from where [keys] passphrase says, else asked for. Hosts that run go on with the key that they have; give
    them the new passphrase before the key is rotated, or they are started again. Copies of the file elsewhere keep their old passphrase.

    \b
    Examples:
      remediation keys passphrase
      remediation keys passphrase --from fd:3 3< new-passphrase
      remediation keys passphrase --remove
    """
    import asyncio

    from remediation.bootstrap.keys import change_passphrase, open_keys

    if remove and source is not None:
        output.fail("--remove wants no new passphrase; leave out --from", output.ExitCode.WRONG_USE)
    ask_at_the_terminal()
    place = _home(home)
    keys = open_keys(place)
    new = None if remove else new_passphrase(source)
    asyncio.run(change_passphrase(place, keys, new))
    output.note("The key is not encrypted any more." if remove else "The key is encrypted under the new passphrase.")


def _home(option: str | None) -> Home:
    from remediation.settings import Settings

    return Settings.of(existing_home(option)).home


async def _epochs(home: Home) -> list[dict[str, Any]]:
    from hashlib import sha256

    from remediation.bootstrap.keys import read_epochs

    epochs = await read_epochs(home)
    ends: list[int | None] = [*epochs.sizes, None]
    starts = [0, *epochs.sizes]
    return [
        {
            "vkey": str(key),
            "fingerprint": sha256(key.public).hexdigest(),
            "state": "current" if end is None else "retired",
            "from": start,
            "to": end,
        }
        for key, start, end in zip(epochs.keys, starts, ends, strict=True)
    ]


async def _rotated(home: Home, reason: str) -> Rotated:
    from remediation.bootstrap import open_journal
    from remediation.bootstrap.keys import open_keys, rotate
    from remediation.ports.clock import SystemClock

    keys = open_keys(home)
    journal = await open_journal(home, SystemClock(), keys=keys)
    try:
        return await rotate(home, keys, journal, reason)
    finally:
        await journal.close()


def _pem(key: VerifierKey) -> str:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    public = Ed25519PublicKey.from_public_bytes(key.public)
    return public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode("ascii")
