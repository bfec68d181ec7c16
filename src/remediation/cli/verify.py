"""``journal verify``: whether the ledger is what was signed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from remediation.cli import output
from remediation.cli.options import HomeOption, JsonOption, existing_home
from remediation.errors import ConfigurationError, JournalDamaged, JournalRolledBack, JournalTooNew
from remediation.settings.home import Home

if TYPE_CHECKING:
    from remediation.proof import Verification
    from remediation.proof.anchored import Anchored
    from remediation.settings import Settings

_ANCHOR_SECONDS = 20.0
"""How long any anchor may take to be read."""

_STANDARD_INPUT = 0
_SOURCES = {
    "home": "The key was taken from the home itself. Give --vkey, kept elsewhere, to prove it to others.",
    "export": "The key was taken from the file itself: this proves only that it fits itself. Give --vkey, got from its host.",
}


def verify(
    file: Annotated[
        Path | None,
        typer.Argument(
            metavar="[FILE]",
            help="An exported journal (- is standard input), or a database that was put aside. Without it: the journal of the home.",
            show_default=False,
        ),
    ] = None,
    *,
    proof: Annotated[
        Path | None,
        typer.Option(
            "--proof",
            metavar="PROOF",
            help="Check this proof of one entry instead (see `journal prove`); - is standard input.",
        ),
    ] = None,
    body: Annotated[
        Path | None,
        typer.Option(
            "--body", metavar="FILE", help="With --proof: the content that came beside it. Default: PROOF.body, if it is there."
        ),
    ] = None,
    vkey: Annotated[
        list[str] | None, typer.Option("--vkey", metavar="VKEY", help="The log's key, as you know it from elsewhere.")
    ] = None,
    head: Annotated[
        Path | None,
        typer.Option("--head", metavar="NOTE", help="A file with a signed head of this log that you kept: it must be continued."),
    ] = None,
    origin: Annotated[str | None, typer.Option("--origin", metavar="NAME", help="The log that it must be.")] = None,
    min_size: Annotated[int, typer.Option("--min-size", min=0, metavar="N", help="The number of entries that exist at least.")] = 0,
    with_archive: Annotated[
        list[Path] | None,
        typer.Option(
            "--with-archive",
            metavar="FILE",
            help="Entries that were archived to this file are verified too; again for each further file, in order.",
        ),
    ] = None,
    home: HomeOption = None,
    json: JsonOption = False,
) -> None:
    """
    Check that a journal is what was signed: every entry, its place, its body, the tree and its checkpoints.

    Needs no private key. What is checked against: the key (--vkey), a head that you kept (--head) and a size (--min-size); the more
    of them you bring from elsewhere, the more is proven.

    \b
    Exit codes: 0 verified, 3 tampering, 4 rolled back, 5 incomplete.

    \b
    Examples:
      remediation journal verify
      remediation journal verify journal.jsonl --vkey "$(cat atlas.vkey)" --head last-week.note
      remediation journal verify --proof decision.tlog-proof --vkey "$(cat atlas.vkey)"
    """
    from remediation.proof import NoteError
    from remediation.proof.chain import verify_chain

    if proof is not None:
        if file is not None or head is not None or min_size:
            output.fail("--proof is checked by itself: FILE, --head and --min-size say nothing of it", output.ExitCode.WRONG_USE)
        return _verify_proof(proof, vkey or [], body=body, origin=origin, home=home, json=json)
    try:
        note = head.read_text("utf-8") if head is not None else None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"the head {head} can't be read: {error}") from error
    try:
        if file is not None and file != Path("-") and _is_database(file):
            verdict = _verify_kept(file, vkey or [], origin=origin, head=note, min_size=min_size)
        elif file is not None:
            files = [*(with_archive or ()), _STANDARD_INPUT if file == Path("-") else file]
            verdict = verify_chain(files, vkeys=vkey or (), origin=origin, head=note, min_size=min_size)
        else:
            place, archives = existing_home(home), with_archive or ()
            verdict = _verify_home(place, vkey or [], origin=origin, head=note, min_size=min_size, archives=archives)
    except NoteError as error:
        output.fail(f"--vkey or --head: {error}", output.ExitCode.WRONG_USE)
    except OSError as error:
        output.fail(f"{error.filename or file} can't be read: {error.strerror}", output.ExitCode.WRONG_USE)
    _show(verdict, json)
    raise typer.Exit(_code(verdict))


def _verify_proof(proof: Path, vkeys: list[str], *, body: Path | None, origin: str | None, home: str | None, json: bool) -> None:
    from remediation.cli import prove
    from remediation.proof import NoteError

    try:
        prove.check(proof, vkeys, body=body, origin=origin, home=home, json=json)
    except NoteError as error:
        output.fail(f"--vkey: {error}", output.ExitCode.WRONG_USE)
    except OSError as error:
        output.fail(f"{error.filename} can't be read: {error.strerror}", output.ExitCode.WRONG_USE)


def _is_database(file: Path) -> bool:
    """Whether it is a SQLite database. What is no plain file can be read once only, and is read as an export."""
    if file.exists() and not file.is_file():
        return False
    with file.open("rb") as opened:
        return opened.read(16) == b"SQLite format 3\0"


def _verify_kept(file: Path, vkeys: list[str], *, origin: str | None, head: str | None, min_size: int) -> Verification:
    """A journal that `journal recover` put aside: its public keys and its last known head lie beside it."""
    from remediation.stores.auditing import verify_journal

    beside, own = file.with_name("head.note"), file.with_name("signing.vkey")
    try:
        known = beside.read_text("utf-8", "backslashreplace") if beside.exists() else None
        keys = own.read_text("utf-8").split() if own.exists() else []
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"what lies beside {file} can't be read: {error}") from error
    try:
        return verify_journal(file, own=keys, vkeys=vkeys, origin=origin, head=head, known_head=known, min_size=min_size)
    except (JournalDamaged, JournalTooNew) as error:
        return _unreadable(error, by_argument=bool(vkeys))


def _verify_home(
    home: Home, vkeys: list[str], *, origin: str | None, head: str | None, min_size: int, archives: Sequence[Path]
) -> Verification:
    from remediation.stores.auditing import verify_journal

    unchecked: list[str] = []
    settings = _settings(home, unchecked, needed=not vkeys)
    keys = settings.home if settings is not None else None
    try:
        known, acknowledged = _known_head(keys, unchecked)
        min_size = max(min_size, acknowledged)
        _require_journal(home, [known, head], min_size)
        verdict = verify_journal(
            home.journal,
            own=_own(keys),
            vkeys=vkeys,
            origin=origin,
            head=head,
            known_head=known,
            min_size=min_size,
            anchors=_anchored(settings, unchecked) if settings is not None else (),
            archives=archives,
        )
    except (JournalDamaged, JournalTooNew) as error:
        return _unreadable(error, by_argument=bool(vkeys))
    return verdict if head is not None else _with_unchecked(verdict, unchecked)


def _require_journal(home: Home, heads: list[str | None], min_size: int) -> None:
    """
    Raise JournalRolledBack if there is no database, or another thing in its place, though entries of it are known to exist.

    Where none are, whoever opens it says so: a home whose making was interrupted has a head, too.
    """
    from remediation.proof import claimed_size

    known = max(min_size, *(claimed_size(head) if head is not None else 0 for head in heads))
    if known and not home.journal.is_file():
        raise JournalRolledBack(
            f"there is no journal at {home.journal}, but it had {known} entries at least: it was removed; restore the newest copy of it, "
            "or start a new log with `remediation journal recover`"
        )


def _with_unchecked(verdict: Verification, unchecked: list[str]) -> Verification:
    """
    `verdict`, and what was not looked at.

    The settings lie in the home: whoever put an older journal there may have seen to it that nothing leads to the head that shows it.
    """
    from dataclasses import replace

    from remediation.proof import Problem, ProblemCode

    problems = [Problem(ProblemCode.UNCHECKED, f"{what}; give a head that you kept, with --head") for what in unchecked]
    return replace(verdict, problems=(*verdict.problems, *problems))


def _anchored(settings: Settings, unchecked: list[str]) -> list[Anchored]:
    """What the home's anchors keep; those that can't be read are told of, and prove nothing."""
    if not _may_have_anchors(settings):
        return []
    import asyncio

    from remediation.bootstrap.anchors import configured_anchors, read_anchors
    from remediation.model.text import printable

    try:
        anchors = configured_anchors(settings)
    except ConfigurationError as error:
        unchecked.append(f"the anchors were not asked: {error}")
        return []
    found, silent = asyncio.run(read_anchors(anchors, _ANCHOR_SECONDS))
    for name, why in silent.items():
        output.note(f"The anchor {printable(name)} proves nothing here: {why}.")
    return found


def _may_have_anchors(settings: Settings) -> bool:
    """Whether there is one in the settings, or a plugin that may bring one. In most homes not, and much need not be imported."""
    from importlib.metadata import entry_points

    tables = settings.anchors
    if tables.file or tables.command or tables.git or settings.host.plugins:
        return True
    return settings.host.autoload is not False and bool(entry_points(group="remediation"))


def _unreadable(error: JournalDamaged | JournalTooNew, *, by_argument: bool) -> Verification:
    """Not even to be read: an answer like any other, in the form that programs expect."""
    from remediation.proof import Problem, ProblemCode, Verification

    code = ProblemCode.BEHIND_HEAD if isinstance(error, JournalRolledBack) else ProblemCode.STORAGE
    if isinstance(error, JournalTooNew):
        code = ProblemCode.FORMAT
    return Verification(
        size=0,
        root=None,
        origin=None,
        key=None,
        key_source="argument" if by_argument else "home",
        problems=(Problem(code, str(error)),),
        unlisted=0,
        proven=0,
        erased=0,
    )


def _settings(home: Home, unchecked: list[str], *, needed: bool) -> Settings | None:
    """The settings of the home, which tell of its keys and anchors; `None` where they can't be used, if a key was given."""
    from remediation.bootstrap.belonging import foreign
    from remediation.settings import Settings

    try:
        settings = Settings.of(home)
        if why := foreign(settings.home):
            raise ConfigurationError(why)
    except ConfigurationError as error:
        if needed:
            raise
        unchecked.append(f"neither head.note nor any anchor was looked at, which would show that the log's end is missing: {error}")
        return None
    return settings


def _own(home: Home | None) -> list[str]:
    try:
        return home.verifier_keys.read_text("utf-8").split() if home is not None else []
    except (OSError, UnicodeDecodeError):
        return []


def _known_head(home: Home | None, unchecked: list[str]) -> tuple[str | None, int]:
    """
    The home's head.note, and how many entries were acknowledged; none where there is no folder of keys at all, as in a copy of a home.

    Raises:
        JournalRolledBack: the keys are there, and head.note is not.

    """
    from remediation.journal.head import HeadNote

    if home is None:
        return None, 0
    if not home.keys.is_dir():
        unchecked.append(
            f"head.note was not looked at, which would show that the log's end is missing: there is no folder {home.keys}"
        )
        return None, 0
    head = HeadNote(home.head_note)
    return head.read(), head.acknowledged(head.origin())


def _show(verdict: Verification, json: bool) -> None:
    if json:
        output.say_json(verdict.as_dict())
        return
    output.say_facts(
        {
            "verdict": "verified" if verdict.ok else "NOT verified",
            "entries": verdict.size,
            "root": verdict.root or "unknown",
            "log": verdict.origin or "unknown",
            "key": verdict.key or "none that is believed",
            "consistent": "yes" if verdict.consistent else "no",
            "signed": _up_to(verdict.signed),
            "anchored": _up_to(verdict.anchored, f", by {verdict.anchored_by}" if verdict.anchored_by else ""),
            "not anchored": f"the last {verdict.unanchored}" if verdict.unanchored else "none",
            "erased bodies": verdict.erased,
            **({"archived": f"{verdict.archived} entries, which stand by their hashes"} if verdict.archived else {}),
        }
    )
    for problem in verdict.problems:
        where = f" (from entry {problem.seq} on)" if problem.seq is not None else ""
        output.say(f"{problem.kind.replace('_', ' ')}: {problem.message}{where}")
    if verdict.unlisted:
        output.say(f"… and {verdict.unlisted} more problems")
    if not verdict.ok:
        output.say(f"The first {verdict.proven} entries are proven.")
    if verdict.key_source in _SOURCES:
        output.note(_SOURCES[verdict.key_source])


def _up_to(number: int, more: str = "") -> str:
    return f"the first {number}{more}" if number else "none"


def _code(verdict: Verification) -> output.ExitCode:
    from remediation.proof import ProblemKind

    codes = {
        None: output.ExitCode.OK,
        ProblemKind.TAMPERING: output.ExitCode.TAMPERING,
        ProblemKind.ROLLED_BACK: output.ExitCode.ROLLED_BACK,
        ProblemKind.INCOMPLETE: output.ExitCode.INCOMPLETE,
    }
    return codes[verdict.worst]
