"""Field types that effects share: how paths, durations, big integers and foreign JSON stand in a record."""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, PlainSerializer, PlainValidator

from remediation.model.base import Duration, milliseconds
from remediation.model.text import printable, wellformed

_BASE64 = "base64:"


def _load_path(value: Any) -> Path:
    if isinstance(value, str) and value.startswith(_BASE64):
        return Path(os.fsdecode(base64.b64decode(value.removeprefix(_BASE64), validate=True)))
    if not isinstance(value, str | os.PathLike) or not isinstance(os.fspath(value), str):
        raise ValueError("must be a path, as text or pathlib.Path")  # noqa: TRY004 - pydantic collects ValueErrors
    path = Path(value)
    if not path.is_absolute() or ".." in path.parts or "\0" in str(path):
        raise ValueError("must be an absolute path without '..'; use ctx.confined() or ctx.subject_path()")
    return Path(os.path.normpath("/" + str(path).lstrip("/")))


def _dump_path(path: Path) -> str:
    text = str(path)
    if wellformed(text) == text:
        return text
    return _BASE64 + base64.b64encode(os.fsencode(path)).decode("ascii")


AbsolutePath = Annotated[Path, PlainValidator(_load_path), PlainSerializer(_dump_path, return_type=str)]
"""An absolute, lexically normal path. In a record it is text; ``base64:…`` if its bytes are not UTF-8 (no absolute path begins
so)."""

TimeSpan = Annotated[Duration, PlainSerializer(lambda span: f"{milliseconds(span)}ms", return_type=str)]
"""A duration that is read as `remediation.model.base.Duration` and recorded in whole milliseconds."""

BigInteger = Annotated[int, PlainSerializer(str, return_type=str)]
"""An integer that may reach 2**53 (nanoseconds, inode numbers): recorded as decimal text, so that every JSON reader keeps it
exact."""


def _load_json(value: Any) -> dict[str, Any]:
    if isinstance(value, str):
        loaded = json.loads(value)
    else:
        try:
            loaded = json.loads(json.dumps(value, allow_nan=False))
        except (TypeError, RecursionError) as error:
            raise ValueError(f"must hold JSON values only: {error}") from error
    if not isinstance(loaded, dict):
        raise ValueError("must be a mapping with text keys")  # noqa: TRY004 - pydantic collects ValueErrors
    return loaded


JsonMapping = Annotated[
    dict[str, Any],
    BeforeValidator(_load_json),
    PlainSerializer(lambda value: json.dumps(value, ensure_ascii=False), return_type=str),
]
"""Foreign JSON: a mapping in memory (a copy of what was given), one JSON text in the record."""


def shown(path: Path) -> str:
    """`path` for people, on one line, without control characters."""
    return printable(wellformed(str(path)))


def touched(path: Path) -> str:
    """`path` as `Touches` holds it; bytes that are not UTF-8 as visible escapes."""
    return wellformed(str(path))
