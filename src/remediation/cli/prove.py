"""``journal prove``: one decision for an auditor, without the rest of the journal; and ``journal verify --proof``, which checks it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from remediation.cli import output
from remediation.cli.options import HomeOption, existing_home
from remediation.errors import ConfigurationError
from remediation.settings.home import Home

if TYPE_CHECKING:
    from remediation.proof import EntryVerification

BODY_SUFFIX = ".body"
"""What is added to a proof's name for the file with a body that is too long for it."""


def prove(
    seq: Annotated[int, typer.Argument(metavar="SEQ", min=0, help="The entry's position, as `journal tail` shows it.")],
    *,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", metavar="FILE", help="Write to this file, whole or not at all, readable by you only.", show_default=False
        ),
    ] = None,
    head: Annotated[
        Path | None,
        typer.Option(
            "--head",
            metavar="NOTE",
            help="Prove it by this signed head, which the auditor has already. Default: the newest one.",
            show_default=False,
        ),
    ] = None,
    home: HomeOption = None,
) -> None:
    """
    Prove to somebody what one entry says, and nothing about the others.

    Writes a C2SP tlog-proof (usually named *.tlog-proof): the entry with its content, the path of hashes from it to the root of the
    journal, and the signed head with that root. Who has the public key checks it with `journal verify --proof FILE --vkey VKEY`, or
    with any tool for tlog-proof. Needs no private key, and may be run beside the host.

    \b
    Examples:
      remediation journal prove 4711 --out decision.tlog-proof
      remediation journal prove 4711 | remediation journal verify --proof - --vkey "$(cat atlas.vkey)"
    """
    from remediation.cli.heads import published_head
    from remediation.cli.sinks import sink, whole_file
    from remediation.proof import claimed_size
    from remediation.settings import Settings
    from remediation.stores.proving import prove_entry

    place = Settings.of(existing_home(home)).home
    note = published_head(place) if head is None else _given(head, published_head(place), place)
    try:
        proven = prove_entry(place.journal, seq, note)
    except ValueError:
        output.fail(f"there is no entry {seq}: the signed head is over {claimed_size(note)} entries, the first one is 0")
    if proven.body is not None and out is None:
        output.fail(
            f"the body of entry {seq} has {len(proven.body)} bytes, too many for a proof: it gets a file of its own; "
            "name the proof's with --out",
            output.ExitCode.WRONG_USE,
        )
    if proven.body is not None and out is not None:
        # First, so that whoever sees the proof finds it.
        with whole_file(body_file(out)) as write:
            write(proven.body)
    with sink(out) as write:
        write(str(proven.proof).encode())
    if out is not None:
        beside = f"; its content in {body_file(out)}, which goes with it" if proven.body is not None else ""
        output.note(f"entry {seq} of {note.partition(chr(10))[0]}, by the head over {claimed_size(note)} entries, in {out}{beside}")


def body_file(proof: Path) -> Path:
    """The file with the body that is too long for `proof`."""
    return proof.with_name(proof.name + BODY_SUFFIX)


def _given(path: Path, known: str, home: Home) -> str:
    """The auditor's head: one that came from here, and is no larger than what is published."""
    from remediation.proof import NoteError, VerifierKey, claimed_size, open_checkpoint

    keys = [VerifierKey.parse(vkey) for vkey in home.verifier_keys.read_text("utf-8").split()]
    try:
        note = path.read_text("utf-8")
        size = open_checkpoint(note, keys, origin=keys[0].name).checkpoint.size
    except (OSError, UnicodeDecodeError, NoteError) as error:
        raise ConfigurationError(f"{path} is not a head of this journal: {error}") from error
    if size > claimed_size(known):
        output.fail(
            f"the head {path} is over {size} entries, this journal knows of {claimed_size(known)}: it was rolled back; "
            f"run `remediation journal verify --head {path}`",
            output.ExitCode.ROLLED_BACK,
        )
    return note


def check(proof: Path, vkeys: list[str], *, body: Path | None, origin: str | None, home: str | None, json: bool) -> None:
    """``journal verify --proof``: judge the proof of one entry, and end the command."""
    from remediation.proof import ProblemKind, verify_entry_proof

    believed, source = (vkeys, "argument") if vkeys else (_own_keys(home), "home")
    found = verify_entry_proof(_content(proof), vkeys=believed, key_source=source, origin=origin, body=_body(proof, body))
    if json:
        output.say_json(found.as_dict())
    else:
        _show(found)
    codes = {
        None: output.ExitCode.OK,
        ProblemKind.TAMPERING: output.ExitCode.TAMPERING,
        ProblemKind.ROLLED_BACK: output.ExitCode.ROLLED_BACK,
        ProblemKind.INCOMPLETE: output.ExitCode.INCOMPLETE,
    }
    raise typer.Exit(codes[found.worst])


def _own_keys(home: str | None) -> list[str]:
    from remediation.settings import Settings

    try:
        return Settings.of(existing_home(home)).home.verifier_keys.read_text("utf-8").split()
    except (ConfigurationError, OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"give the log's key with --vkey; there is no home here to take one from ({error})") from error


def _content(path: Path) -> bytes:
    import sys

    from remediation.proof.tlogproof import MAX_PROOF_BYTES

    if str(path) == "-":
        return sys.stdin.buffer.read(MAX_PROOF_BYTES + 1)
    with path.open("rb") as file:
        return file.read(MAX_PROOF_BYTES + 1)


def _body(proof: Path, given: Path | None) -> bytes | None:
    """The body that came as a file of its own: the one that was named, or the one beside the proof."""
    from remediation.proof.leaf import MAX_BODY_BYTES

    path = given or body_file(proof)
    try:
        with path.open("rb") as file:
            return file.read(MAX_BODY_BYTES + 1)
    except FileNotFoundError:
        if given is None:
            return None
        raise


_BODY = {
    "erased": "The content of this entry was erased; what remains proven is its frame. Who erased it, and why, stands in a later entry.",
    "elsewhere": "The content of this entry is in a file that came with the proof: name it with --body.",
}


def _show(found: EntryVerification) -> None:
    import base64
    import json

    leaf = found.leaf
    facts: dict[str, object] = {"verdict": "proven" if found.ok else "NOT proven", "entry": found.index}
    if leaf is not None:
        facts |= {
            "type": leaf.type,
            "stream": f"{leaf.stream}, number {leaf.stream_seq}",
            "time": f"{leaf.time} (the host's clock)",
            "actor": leaf.actor,
            "id": leaf.id,
            "log": leaf.origin,
        }
    if found.root is not None:
        facts |= {"head": f"{found.size} entries, root {found.root} ({base64.b64decode(found.root).hex()})", "key": found.key}
    output.say_facts(facts)
    if found.body is not None:
        output.say()
        output.say(json.dumps(json.loads(found.body), indent=2, ensure_ascii=False))
    for problem in found.problems:
        output.say(f"{problem.kind.replace('_', ' ')}: {problem.message}")
    if found.body_state in _BODY:
        output.note(_BODY[found.body_state])
    if found.key_source == "home" and found.ok:
        output.note("The key was taken from the home itself. Give --vkey, kept elsewhere, to prove it to others.")
