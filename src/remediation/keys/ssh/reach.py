"""
Whether a private key lies where the host's own user can read it.

A person's consent is worth nothing if the program that asks for it could give it. Only files are looked at. Non-guarantees: keys in an
agent that this user may use, keys in other places, and what root could read, are not seen. The file of a key on a token (FIDO) is none:
it is a handle, with which nobody signs who does not touch the token, and a signature without that touch is refused.
"""

from __future__ import annotations

import base64
import contextlib
import os
import pwd
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from remediation.keys.ssh.publickeys import PublicKey, PublicKeyRefused
from remediation.keys.ssh.wire import Malformed, Reader

_MAGIC: Final = b"openssh-key-v1\0"
_LARGEST: Final = 64 * 1024
_MOST_FILES: Final = 1000


@dataclass(frozen=True, slots=True)
class PrivateKeyInReach:
    """Where it lies."""

    path: Path
    encrypted: bool
    """Whether a passphrase is needed to use it."""


def private_key_in_reach(key: PublicKey, places: Iterable[str | os.PathLike[str]] | None = None) -> PrivateKeyInReach | None:
    """
    The file with the private half of `key` that this process can read, if there is one.

    Args:
        key: The public key.
        places: Files and folders to look into (a folder's own files only). For a ``.pub`` file, the private file beside it. Default:
            ``.ssh`` in this user's home directory, by the environment and by the user database.

    """
    if key.kind.startswith("sk-"):
        return None
    for path in _files(_own() if places is None else [Path(place) for place in places]):
        content = _content(path)
        if content is None:
            continue
        found = _public_half(content, path)
        if found is not None and found[0] == key:
            return PrivateKeyInReach(path, found[1])
    return None


def public_half(path: str | os.PathLike[str]) -> PublicKey | None:
    """
    The public key of the private key in the file `path`, or the one in it if it is a ``.pub`` file; no passphrase is needed.

    `None` if the file can't be read, holds no key that is accepted, or an encrypted one that does not say and has no ``.pub`` beside it.
    """
    place = Path(path)
    content = _content(place)
    if content is None:
        return None
    if place.suffix == ".pub":
        try:
            return PublicKey.of_line(content.decode("utf-8", "replace"))
        except PublicKeyRefused:
            return None
    found = _public_half(content, place)
    return found[0] if found is not None else None


def _own() -> list[Path]:
    homes = [os.path.expanduser("~")]
    with contextlib.suppress(KeyError):  # a user without an entry, as containers have them
        homes.append(pwd.getpwuid(os.geteuid()).pw_dir)
    return [Path(home) / ".ssh" for home in dict.fromkeys(homes) if os.path.isabs(home)]


def _files(places: Iterable[Path]) -> Iterator[Path]:
    for place in places:
        try:
            listed = sorted(place.iterdir())[:_MOST_FILES]
        except NotADirectoryError:
            listed = [place]
        except OSError:
            continue
        yield from dict.fromkeys(path.with_suffix("") if path.suffix == ".pub" else path for path in listed)


def _content(path: Path) -> bytes | None:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or found.st_size > _LARGEST:
            return None
        with open(descriptor, "rb", closefd=False) as file:
            return file.read()
    except OSError:
        return None
    finally:
        os.close(descriptor)


def _public_half(content: bytes, path: Path) -> tuple[PublicKey, bool] | None:
    """The public key of a private one, and whether that is encrypted."""
    if b"-----BEGIN OPENSSH PRIVATE KEY-----" in content:
        return _of_openssh(content)
    if b"PRIVATE KEY-----" not in content:
        return None
    try:
        private = load_pem_private_key(content, password=None)
        line = private.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
        return PublicKey.of_line(line.decode("ascii")), False
    except TypeError:  # it is encrypted: only the file beside it can tell
        beside = _content(path.with_name(f"{path.name}.pub"))
        try:
            return None if beside is None else (PublicKey.of_line(beside.decode("utf-8", "replace")), True)
        except PublicKeyRefused:
            return None
    except (ValueError, UnsupportedAlgorithm, PublicKeyRefused):
        return None


def _of_openssh(content: bytes) -> tuple[PublicKey, bool] | None:
    """OpenSSH's own form (PROTOCOL.key) has the public key in the clear, whether the private one is encrypted or not."""
    inner = content.partition(b"-----BEGIN OPENSSH PRIVATE KEY-----")[2].partition(b"-----END")[0]
    try:
        reader = Reader(base64.b64decode(inner))
        if reader.take(len(_MAGIC)) != _MAGIC:
            return None
        cipher = reader.text()
        reader.string()
        reader.string()
        if reader.uint32() != 1:
            return None
        return PublicKey.of_blob(reader.string()), cipher != "none"
    except (Malformed, ValueError, PublicKeyRefused):
        return None
